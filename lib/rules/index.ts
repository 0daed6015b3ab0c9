/**
 * Rules that intercept connections: a configuration becomes a plan, a plan becomes nftables or iptables rules,
 * which can be printed, installed, compared with what is there, and removed.
 *
 * @module
 */
export { apply, applyCommands, remove, removeCommands, verify, type ApplyOptions } from './apply.ts';
export type {
  DirectionRules,
  DnsRules,
  ExemptRules,
  Family,
  FlowMatch,
  GatewayRules,
  InboundRules,
  Mode,
  OutboundRules,
  PortRange,
  Protocol,
  RulesConfig,
} from './config.ts';
export { draining } from './draining.ts';
export { toIptables } from './iptables.ts';
export { toNftables } from './nftables.ts';
export { planRules } from './plan.ts';
export { toIpCommands } from './routing.ts';
export { commandLine } from './run.ts';
export { sidecar, type SidecarOptions } from './sidecar.ts';
export type {
  Action,
  Backend,
  Chain,
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
