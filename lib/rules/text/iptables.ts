// A plan as iptables-restore text, and back.
import type { Family } from '../config/config.ts';
import { ICMP } from './nftables.ts';
import { CHAIN_IDS, type Action, type Chain, type ChainId, type Condition, type RulePlan } from '../types.ts';

/** The rules of a plan in one of iptables' tables. */
export interface IptablesTable {
  table: string;
  /** Own chains, with their rules as iptables-save prints them, without `-A chain`. */
  chains: ReadonlyMap<string, readonly string[]>;
  /** The built-in chains that jump to own ones, and to which. */
  jumps: readonly { hook: string; chain: string }[];
  /** Of a listing: what others have put above the jumps of a built-in chain, or what else leads into own chains. */
  foreign: readonly { hook: string; rule: string }[];
}

/** What an own chain of a plan is called: at most 28 characters. */
export function chainName(name: string, id: ChainId | 'record' | ''): string {
  return `odst-${name}-${id}`;
}

/** What may follow the name, as a pattern: `odst-a-` also begins the chains of a plan called `a-b`. */
export const CHAIN_SUFFIX = [...CHAIN_IDS, 'record'].join('|');

/** multiport holds fifteen ports; a range counts twice. */
const MAX_PORTS = 15;

function portGroups(ports: readonly string[]): string[][] {
  const groups: string[][] = [];
  let room = 0;
  for (const port of ports) {
    const need = port.includes('-') ? 2 : 1;
    if (room < need) {
      groups.push([]);
      room = MAX_PORTS;
    }
    groups.at(-1)!.push(port.replace('-', ':'));
    room -= need;
  }
  return groups;
}

function portMatch(protocol: string, group: readonly string[], not: '' | '! '): string {
  const [only, another] = group;
  if (another === undefined) return `-m ${protocol} ${not}--dport ${only}`;
  return `-m multiport ${not}--dports ${group.join(',')}`;
}

/** Fields that one match of `tcp` can hold are one match in iptables' own listing. */
function withFlags(ports: string, syn: boolean | undefined): string {
  if (syn === undefined) return ports;
  const flags = `${syn ? '' : '! '}--tcp-flags FIN,SYN,RST,ACK SYN`;
  return ports.startsWith('-m tcp ') ? `${ports} ${flags}` : `-m tcp ${flags} ${ports}`.trim();
}

/** Every way to take one entry from each list. */
function product(lists: readonly (readonly string[])[]): string[][] {
  return lists.reduce<string[][]>(
    (all, list) => all.flatMap((words) => list.map((word) => [...words, word])),
    [[]],
  );
}

const STATES = {
  invalid: '--ctstate INVALID',
  known: '--ctstate RELATED,ESTABLISHED',
  'not new': '! --ctstate NEW',
};

/** What one rule of the plan matches; several rules here where iptables has no word for a list. */
function matches(when: Condition, family: Family): string[] {
  const { protocol = '', ports, notPorts, sourcePort } = when;
  const hex = (mark: number): string => `0x${mark.toString(16)}`;
  const mask = (bits: number | undefined): string => (bits === undefined ? '' : `/${hex(bits)}`);
  const name = (pattern: string): string => pattern.replace(/\*$/, '+');
  const always = (word: string | false | undefined): string[] => [word || ''];
  // In iptables-save's order, which verify compares with.
  return product([
    when.sources?.map((prefix) => `-s ${prefix}`) ?? [''],
    when.destinations?.map((prefix) => `-d ${prefix}`) ?? [''],
    always(when.notDestination && `! -d ${when.notDestination}`),
    when.inInterfaces?.map((pattern) => `-i ${name(pattern)}`) ?? [''],
    when.outInterfaces?.map((pattern) => `-o ${name(pattern)}`) ?? [''],
    always(protocol !== '' && `-p ${protocol === 'icmp' ? ICMP[family] : protocol}`),
    always(sourcePort !== undefined && `-m ${protocol} --sport ${sourcePort}`),
    (ports ? portGroups(ports).map((group) => portMatch(protocol, group, '')) : ['']).map((match) =>
      withFlags(match, when.syn),
    ),
    always(
      notPorts &&
        portGroups(notPorts)
          .map((group) => portMatch(protocol, group, '! '))
          .join(' '),
    ),
    always(when.addressTypes && `-m addrtype --dst-type ${when.addressTypes.join(',').toUpperCase()}`),
    always(when.notAddressType && `-m addrtype ! --dst-type ${when.notAddressType.toUpperCase()}`),
    always(when.uid !== undefined && `-m owner --uid-owner ${when.uid}`),
    always(when.gid !== undefined && `-m owner --gid-owner ${when.gid}`),
    always(when.cgroup !== undefined && `-m cgroup --path ${when.cgroup}`),
    always(when.mark !== undefined && `-m mark --mark ${hex(when.mark)}${mask(when.markMask)}`),
    always(when.notMark !== undefined && `-m mark ! --mark ${hex(when.notMark)}`),
    always(when.state && `-m conntrack ${STATES[when.state]}`),
    always(when.translated && '-m conntrack --ctstate DNAT'),
    always(when.connmark !== undefined && `-m connmark --mark ${hex(when.connmark)}`),
    always(when.notConnmark !== undefined && `-m connmark ! --mark ${hex(when.notConnmark)}`),
    always(when.reply && '-m conntrack --ctdir REPLY'),
    always(when.transparentSocket && '-m socket --transparent'),
  ]).map((words) => words.filter((word) => word !== '').join(' '));
}

function targets(action: Action, family: Family): string[] {
  const whole = (mark: number): string => `0x${mark.toString(16)}/0xffffffff`;
  switch (action.do) {
    case 'return':
    case 'drop':
      return [action.do.toUpperCase()];
    case 'reject':
      if (action.with === 'reset') return ['REJECT --reject-with tcp-reset'];
      return [`REJECT --reject-with ${family === 'IPv4' ? 'icmp' : 'icmp6'}-port-unreachable`];
    case 'redirect':
      return [`REDIRECT --to-ports ${action.port}`];
    case 'tproxy':
      return [
        `TPROXY --on-port ${action.port} --on-ip ${family === 'IPv4' ? '0.0.0.0' : '::'} --tproxy-mark ${whole(action.mark)}`,
      ];
    case 'deliver':
      return [`MARK --set-xmark ${whole(action.mark)}`, 'RETURN'];
    case 'mark':
      return [`MARK --set-xmark ${whole(action.mark)}`];
    case 'connmark':
      return [`CONNMARK --set-xmark ${whole(action.mark)}`];
    case 'save':
    case 'restore':
      return [`CONNMARK --${action.do}-mark --nfmask 0xffffffff --ctmask 0xffffffff`];
    case 'zone':
      return [`CT --zone ${action.zone}`];
  }
}

/** The chains of one family, table by table. */
export function iptablesTables(name: string, chains: readonly Chain[], family: Family): IptablesTable[] {
  return [...new Set(chains.map(({ table }) => table))].map((table) => {
    const own = chains.filter((chain) => chain.table === table);
    return {
      table,
      chains: new Map(
        own.map(({ id, rules }) => [
          chainName(name, id),
          rules.flatMap(({ when, action, why }) =>
            matches(when, family).flatMap((match) =>
              targets(action, family).map((target) =>
                [match, `-m comment --comment "${why}"`, `-j ${target}`]
                  .filter((word) => word !== '')
                  .join(' '),
              ),
            ),
          ),
        ]),
      ),
      jumps: own.map(({ id, hook }) => ({ hook, chain: chainName(name, id) })),
      foreign: [],
    };
  });
}

/**
 * Text for `iptables-restore --noflush` that leads from what there is to what is wanted: a transaction for each
 * table. Empty where nothing is to be done.
 */
export function iptablesChange(from: readonly IptablesTable[], to: readonly IptablesTable[]): string {
  const tables = [...new Set([...from, ...to].map(({ table }) => table))];
  return tables
    .map((table) => {
      const before = from.find((entry) => entry.table === table);
      const after = to.find((entry) => entry.table === table);
      const old = [...(before?.chains.keys() ?? [])].filter((chain) => !after?.chains.has(chain));
      const chains = [...(after?.chains ?? [])];
      return [
        `*${table}`,
        // Declared chains are made, or emptied if they are there.
        ...[...old, ...chains.map(([chain]) => chain)].map((chain) => `:${chain} - [0:0]`),
        ...(before?.jumps ?? []).map(({ hook, chain }) => `-D ${hook} -j ${chain}`),
        ...chains.flatMap(([chain, rules]) => rules.map((rule) => `-A ${chain} ${rule}`)),
        // At the top, in order: before whatever else is there.
        ...(after?.jumps ?? []).map(
          ({ hook, chain }, i, all) =>
            `-I ${hook} ${all.slice(0, i).filter((jump) => jump.hook === hook).length + 1} -j ${chain}`,
        ),
        ...old.map((chain) => `-X ${chain}`),
        'COMMIT\n',
      ].join('\n');
    })
    .join('');
}

/** The plan as text for `iptables-restore --noflush` and `ip6tables-restore --noflush`, for a host without its rules. */
export function toIptables(plan: RulePlan): Partial<Record<Family, string>> {
  return Object.fromEntries(
    Object.entries(plan.chains).map(([family, chains]) => [
      family,
      iptablesChange([], iptablesTables(plan.name, chains, family as Family)),
    ]),
  );
}
