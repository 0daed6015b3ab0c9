// What iptables intercepts, read off `iptables-save -c`.
import type { Found, FoundRule } from './found-rules.ts';
import { Hooks } from './hooks.ts';

const RULE = /^\[(\d+):\d+\] -A (\S+) (.*)-([jg]) (\S+)(.*)$/;
type Parts = [packets: string, chain: string, conditions: string, how: string, target: string, rest: string];
const KINDS: Record<string, FoundRule['kind']> = { REDIRECT: 'redirect', TPROXY: 'tproxy', DNAT: 'dnat' };
const BUILT_IN = new Set(['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING']);
const COMMENT = /-m comment --comment ("(?:[^"\\]|\\.)*"|\S+) /;

/** `veth+` as everybody else writes it. */
const interfaceName = (name: string): string => name.replace(/\+$/, '*');

/** What the rules of a chain have let pass so far. */
interface Passed {
  spared: string[];
  localOnly: boolean;
}

/** Learns from a rule that lets packets pass, if it asks for nothing but an interface or a kind of address. */
function note(conditions: string, passed: Passed): void {
  const bare = conditions.replace(COMMENT, '').trim();
  const [, from] = /^-i (\S+)$/.exec(bare) ?? [];
  if (from !== undefined) passed.spared.push(interfaceName(from));
  if (bare === '-m addrtype ! --dst-type LOCAL') passed.localOnly = true;
}

/** The tables that `iptables-save` says it cannot show. */
export function hiddenIn(saved: string): string[] {
  return [...saved.matchAll(/^# Table `(\w+)' is incompatible/gm)].map(([, table]) => table!);
}

/** Reads `iptables-save -c` or `ip6tables-save -c`. */
export function parseIptables(saved: string, family: 4 | 6): Found {
  const found: Found = { rules: [], cgroups: [] };
  const hooks = new Hooks();
  const passed = new Map<string, Passed>();
  const captures: [chain: string, rule: Omit<FoundRule, 'hooks'>][] = [];
  let table = '';
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    const match = RULE.exec(line);
    if (!match) continue;
    const [packets, chain, conditions, how, target, rest] = match.slice(1) as Parts;
    const id = `${table} ${chain}`;
    const place = `${table} / ${chain}`;
    if (BUILT_IN.has(chain)) hooks.base(id, chain.toLowerCase());
    const [, cgroup] = /(?:^| )-m cgroup --path "?([^\s"]+)/.exec(conditions) ?? [];
    const [, loaded] = /, cgroup (\d+)"/.exec(conditions) ?? [];
    if (cgroup !== undefined) found.cgroups.push({ cgroup, loaded, place });
    const before = passed.get(id) ?? { spared: [], localOnly: false };
    passed.set(id, before);
    const kind = KINDS[target];
    if (kind === undefined) {
      if (target === 'RETURN' || target === 'ACCEPT') note(conditions, before);
      else if (how === 'g' || rest === '') hooks.jump(id, `${table} ${target}`);
      continue;
    }
    const from = /(?:^| )-i (\S+)/.exec(conditions)?.[1];
    const option = (name: string) => new RegExp(`--${name} (\\S+)`).exec(rest)?.[1];
    const to = /^\[?(.*?)\]?(?::(\d+))?$/.exec(option('to-destination') ?? '');
    const port = option('to-ports') ?? option('on-port') ?? to?.[2];
    const mark = option('tproxy-mark')?.split('/')[0];
    const address = option('on-ip') ?? to?.[1];
    const rule: Omit<FoundRule, 'hooks'> = {
      via: 'iptables',
      families: [family],
      kind,
      port: port === undefined ? undefined : Number.parseInt(port, 10),
      address: address === undefined || address === '' ? undefined : address,
      mark: mark === undefined ? undefined : Number(mark),
      packets: Number(packets),
      priority: undefined,
      interfaces: from === undefined ? [] : [interfaceName(from)],
      spared: [...before.spared],
      localOnly: before.localOnly,
      place,
    };
    captures.push([id, rule]);
  }
  found.rules = captures.map(([id, rule]) => ({ ...rule, hooks: hooks.of(id) }));
  return found;
}
