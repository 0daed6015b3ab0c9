// planRules(): a configuration becomes a plan.
import { checkSettings } from './config/checks.ts';
import type { Family, RulesConfig } from './config/config.ts';
import { dnsZoneChains } from './chains/dns-zones.ts';
import { FORWARDING } from './text/forwarding.ts';
import { gatewayChains } from './chains/gateway.ts';
import { inboundChains } from './chains/inbound.ts';
import { outboundChains } from './chains/outbound.ts';
import { readConfig, type Settings } from './config/settings.ts';
import type { Chain, MarkRoute, RulePlan, Sysctl } from './types.ts';

const TABLES = ['raw', 'mangle', 'nat', 'filter'] as const;

function chains(settings: Settings, family: Family): Chain[] {
  const invalid: Chain = {
    id: 'invalid',
    table: 'mangle',
    hook: 'PREROUTING',
    rules: [{ when: { state: 'invalid' }, action: { do: 'drop' }, why: 'outside its connection' }],
  };
  const captures = [
    ...inboundChains(settings, family),
    ...gatewayChains(settings, family),
    ...outboundChains(settings, family),
  ];
  if (captures.length === 0) return [];
  const all = [...dnsZoneChains(settings, family), ...(settings.dropInvalid ? [invalid] : []), ...captures];
  return TABLES.flatMap((table) => all.filter((chain) => chain.table === table));
}

function routes({ table }: Settings, family: Family, own: readonly Chain[]): MarkRoute[] {
  const marks = own.flatMap(({ rules }) =>
    rules.map(({ action, when }) => {
      if (action.do === 'restore') return when.connmark;
      return action.do === 'tproxy' || action.do === 'deliver' ? action.mark : undefined;
    }),
  );
  return [...new Set(marks)].filter((mark) => mark !== undefined).map((mark) => ({ family, mark, table }));
}

/**
 * Turns a configuration into the rules that bring it about. Pure: it asks neither the system nor the environment.
 *
 * @throws what is wrong with the configuration and what to do about it:
 *   `ERR_RULES_LOOP` (the proxy's own traffic would be captured), `ERR_RULES_SSH` (so would the session in use),
 *   `ERR_RULES_CONTRADICTION`, `ERR_RULES_OVERLAP`, `ERR_RULES_EMPTY`, `ERR_RULES_OPTION`, `ERR_RULES_ADDRESS`,
 *   `ERR_RULES_PORT`, `ERR_RULES_INTERFACE`, `ERR_RULES_CGROUP`, `ERR_RULES_NAME`, `ERR_INVALID_ARG_TYPE`,
 *   `ERR_OUT_OF_RANGE`
 */
export function planRules(config: RulesConfig): RulePlan {
  const settings = readConfig(config);
  checkSettings(settings, config);
  const planned = settings.families
    .map((family) => ({ family, own: chains(settings, family) }))
    .filter(({ own }) => own.length > 0);
  return {
    name: settings.name,
    chains: Object.fromEntries(planned.map(({ family, own }) => [family, own])),
    routes: planned.flatMap(({ family, own }) => routes(settings, family, own)),
    sysctls: settings.gateway?.forwarding
      ? planned.map(({ family }): Sysctl => ({ key: FORWARDING[family], value: '1' }))
      : [],
  };
}

/** The part of a plan that is for these families. Pure. */
export function onlyFamilies(plan: RulePlan, families: readonly Family[]): RulePlan {
  return {
    ...plan,
    chains: Object.fromEntries(
      Object.entries(plan.chains).filter(([family]) => families.includes(family as Family)),
    ),
    routes: plan.routes.filter(({ family }) => families.includes(family)),
    sysctls: plan.sysctls.filter(({ key }) => families.some((family) => key === FORWARDING[family])),
  };
}
