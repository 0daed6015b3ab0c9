// What is to be there in the end: a plan in one back-end, or what was there before.
import type { Family } from '../config/config.ts';
import { isSwitch } from '../text/forwarding.ts';
import { iptablesTables, type IptablesTable } from '../text/iptables.ts';
import { NFT_FAMILY, nftLines, type NftLines } from '../text/nftables.ts';
import type { Backend, MarkRoute, RulePlan, Sysctl } from '../types.ts';
import type { Holder } from './holder.ts';
import type { Installed } from './installed.ts';
import { FAMILIES } from './nftables-state.ts';
import { iptablesRestorable, nftRestorable } from './restorable.ts';
import { unreadable } from './undo.ts';

/** What is to be there in the end. */
export interface Target {
  backend: Backend;
  nftables: Partial<Record<Family, NftLines>>;
  iptables: Partial<Record<Family, readonly IptablesTable[]>>;
  routes: readonly MarkRoute[];
  sysctls: readonly Sysctl[];
  holder: Holder | undefined;
}

/** What a plan comes to in a back-end. */
export function targetOf(plan: RulePlan, backend: Backend, holder?: Holder): Target {
  const chains = Object.entries(plan.chains) as [Family, NonNullable<RulePlan['chains'][Family]>][];
  return {
    backend,
    nftables: Object.fromEntries(chains.map(([family, own]) => [family, nftLines(own, family)])),
    iptables: Object.fromEntries(
      chains.map(([family, own]) => [family, iptablesTables(plan.name, own, family)]),
    ),
    routes: plan.routes,
    sysctls: plan.sysctls,
    holder,
  };
}

/** Can all that is there be given back to the tools that listed it? */
function isRestorable({ nftables, iptables }: Installed, backend: Backend): boolean {
  if (backend === 'nftables')
    return nftables!.odd.length === 0 && Object.values(nftables!.rules).every(nftRestorable);
  const rules = Object.values(iptables!.rules).flatMap((tables) =>
    tables.flatMap(({ chains }) => [...chains.values()]),
  );
  return iptables!.hiddenRemoval === '' && rules.flat().every(iptablesRestorable);
}

/** What was there; undefined if that was no whole installation, but nothing, the remains of one, or an altered one. */
export function targetBefore(installed: Installed, backend: Backend): Target | undefined {
  const there = installed[backend];
  if (there === undefined || !Object.values(there.rules).some((rules) => rules.length > 0)) return undefined;
  if (!isRestorable(installed, backend)) return undefined;
  return {
    backend,
    nftables: installed.nftables?.rules ?? {},
    iptables: installed.iptables?.rules ?? {},
    routes: there.undo.routes,
    sysctls: there.undo.sysctls
      .filter(isSwitch)
      .map(({ key }) => ({ key, value: installed.sysctls.get(key)! })),
    holder: there.undo.holder,
  };
}

/** @throws `ERR_RULES_UNREADABLE` if iptables cannot show a table that the target needs */
export function checkShown({ backend, iptables }: Target, installed: Installed): void {
  if (backend === 'nftables') return;
  const needed = FAMILIES.flatMap((family) =>
    (iptables[family] ?? []).map(({ table }) => `${NFT_FAMILY[family]} ${table}`),
  );
  const hidden = [...needed, 'ip filter'].find((table) => installed.iptables!.hidden.includes(table));
  if (hidden === undefined) return;
  throw unreadable(
    `iptables cannot show its table ${hidden}: somebody has put a rule of nft's own kind into it`,
    `use the back-end nftables, or remove that rule: nft -a list table ${hidden}`,
  );
}
