// The names of `original-dst/rules`.
/**
 * Rules that intercept connections: a configuration becomes a plan, a plan becomes nftables or iptables rules,
 * which can be printed, installed, compared with what is there, and removed.
 *
 * @module original-dst/rules
 */
export {
  apply,
  applyCommands,
  remove,
  removeCommands,
  verify,
  type ApplyOptions,
  type RemoveOptions,
} from './install/apply.ts';
export type {
  Captured,
  DirectionRules,
  DnsRules,
  ExemptRules,
  Family,
  FlowMatch,
  GatewayRules,
  InboundRules,
  Mode,
  OtherwiseRules,
  OutboundMatch,
  OutboundRules,
  PortRange,
  Protocol,
  RulesConfig,
} from './config/config.ts';
export { installedNames } from './install/names.ts';
export { draining } from './chains/draining.ts';
export { toIptables } from './text/iptables.ts';
export { toNftables } from './text/nftables.ts';
export { hostFamilies } from './config/host-families.ts';
export { onlyFamilies, planRules } from './plan.ts';
export { toIpCommands } from './text/routing.ts';
export { commandLine } from './install/run.ts';
export { sidecar, type SidecarOptions } from './config/sidecar.ts';
export type {
  Action,
  AddressType,
  Backend,
  Chain,
  ChainId,
  Condition,
  Difference,
  MarkRoute,
  Rule,
  RulePlan,
  RunStep,
  Step,
  StepResult,
  Sysctl,
} from './types.ts';
