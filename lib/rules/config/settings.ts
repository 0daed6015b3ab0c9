// A configuration, read and completed.
import { checkInteger, invalidType } from '../../arguments.ts';
import { codedError } from '../../errors.ts';
import type {
  DirectionRules,
  Family,
  FlowMatch,
  GatewayRules,
  InboundRules,
  OutboundRules,
  PortRange,
  Protocol,
  RulesConfig,
} from './config.ts';
import { readMarks, type Masked } from './marks.ts';
import { overlap } from './refusals.ts';
import { mergeRanges, parseCidr, parsePorts, type Range } from './ranges.ts';

/** A FlowMatch that has been read: sorted ranges, addresses by family. */
export interface Match {
  ports?: Range[];
  destinations?: Record<Family, Range[]>;
  sources?: Record<Family, Range[]>;
  interfaces?: string[];
}

/** What all three directions come to. */
export interface Direction {
  mode: 'redirect' | 'tproxy';
  port: number;
  protocols: readonly Protocol[];
  include: Match[];
  exclude: Match[];
}

/** A RulesConfig that has been read field by field, with every default filled in. */
export interface Settings {
  name: string;
  families: readonly Family[];
  outbound:
    | (Direction & { loopback: 'bypass' | 'capture'; hairpin: { exceptPorts: Range[] } | undefined })
    | undefined;
  inbound: (Direction & { scope: 'host' | 'any' }) | undefined;
  gateway: (Direction & { forwarding: boolean }) | undefined;
  dns: { port: number; servers: Record<Family, Range[]> | undefined } | undefined;
  exempt: {
    uids: readonly number[];
    gids: readonly number[];
    marks: readonly Masked[];
    cgroups: readonly string[];
    sources: Record<Family, Range[]>;
  };
  dropInvalid: boolean;
  mark: number;
  table: number;
  sshConnection: string | undefined;
}

const FAMILIES: readonly Family[] = ['IPv4', 'IPv6'];
const MAX_ID = 2 ** 32 - 2;

/** Throws unless `value` is an object whose properties are all known: a misspelt option must not go unnoticed. */
function checkObject(option: string, value: unknown, known: readonly string[]): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidType(option, 'an object', value);
  }
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    throw codedError('ERR_RULES_OPTION', `${option} has no option '${unknown}'`, {
      hint: `it has ${known.join(', ')}`,
    });
  }
}

function list<T>(option: string, value: readonly T[] | undefined): readonly T[] {
  if (value !== undefined && !Array.isArray(value)) throw invalidType(option, 'an array', value);
  return value ?? [];
}

function oneOf<T extends string>(option: string, value: T | undefined, allowed: readonly T[]): T {
  if (value !== undefined && allowed.includes(value)) return value;
  throw codedError('ERR_RULES_OPTION', `${option}: '${String(value)}' is none of ${allowed.join(', ')}`);
}

function someOf<T extends string>(
  option: string,
  value: readonly T[] | undefined,
  allowed: readonly T[],
): readonly T[] {
  if (value === undefined) return allowed;
  const chosen = list(option, value);
  if (chosen.length === 0)
    throw codedError('ERR_RULES_OPTION', `${option} is empty`, { hint: `it has ${allowed.join(', ')}` });
  for (const entry of chosen) oneOf(option, entry, allowed);
  return allowed.filter((entry) => chosen.includes(entry));
}

function flag(option: string, value: boolean | undefined): boolean {
  if (value !== undefined && typeof value !== 'boolean') throw invalidType(option, 'of type boolean', value);
  return value ?? false;
}

function ports(option: string, value: readonly PortRange[] | undefined): Range[] {
  const read = list(option, value).map((entry) => parsePorts(option, entry));
  return mergeRanges(read, (a, b) => overlap(option, `${a.first}-${a.last} and ${b.first}-${b.last}`));
}

function addresses(
  option: string,
  value: readonly string[] | undefined,
  families: readonly Family[],
): Record<Family, Range[]> {
  const read = list(option, value).map((text) => ({ text, ...parseCidr(option, text) }));
  for (const { family, text } of read) {
    if (families.includes(family)) continue;
    throw codedError('ERR_RULES_CONTRADICTION', `${option}: ${text} is ${family}, which families leaves out`);
  }
  const of = (family: Family): Range[] => {
    const own = read.filter((entry) => entry.family === family);
    const names = (range: Range): string =>
      own.find((entry) => entry.first >= range.first && entry.last <= range.last)!.text;
    return mergeRanges(own, (a, b) => overlap(option, `${names(a)} and ${names(b)}`));
  };
  return { IPv4: of('IPv4'), IPv6: of('IPv6') };
}

/**
 * All that the kernel takes for a name (dev_valid_name), without what nft or iptables would take for something else: a
 * quote ends the name, a backslash quotes, and to iptables a + at the end means all that begin so.
 */
function isInterface(name: string): boolean {
  return (
    Buffer.byteLength(name) <= 15 &&
    /^[^\s/:%"\\\p{Cc}]+$/u.test(name) &&
    !name.endsWith('+') &&
    !['.', '..', '*'].includes(name)
  );
}

function interfaces(option: string, value: readonly string[]): string[] {
  const names = [...list(option, value)].sort();
  for (const [i, name] of names.entries()) {
    if (typeof name !== 'string' || !isInterface(name)) {
      throw codedError('ERR_RULES_INTERFACE', `${option}: '${String(name)}' is no interface name`, {
        hint: 'at most 15 bytes without spaces and / : % " \\, with a * (not a +) at the end for all that begin so',
      });
    }
    const wider = names
      .slice(0, i)
      .find((other) => other === name || (other.endsWith('*') && name.startsWith(other.slice(0, -1))));
    if (wider !== undefined) overlap(option, `${wider} and ${name}`);
  }
  return names;
}

const MATCH_FIELDS = ['ports', 'destinations', 'sources', 'interfaces'] as const;

function match(option: string, value: FlowMatch, families: readonly Family[]): Match {
  checkObject(option, value, MATCH_FIELDS);
  for (const field of MATCH_FIELDS) {
    if (
      value[field] === undefined ||
      list(`${option}.${field}`, value[field] as readonly unknown[]).length > 0
    )
      continue;
    throw codedError('ERR_RULES_CONTRADICTION', `${option}.${field} is empty, so nothing can match`, {
      hint: 'leave it out to match everything',
    });
  }
  const read: Match = {};
  if (value.ports) read.ports = ports(`${option}.ports`, value.ports);
  if (value.destinations)
    read.destinations = addresses(`${option}.destinations`, value.destinations, families);
  if (value.sources) read.sources = addresses(`${option}.sources`, value.sources, families);
  if (value.interfaces) read.interfaces = interfaces(`${option}.interfaces`, value.interfaces);
  const { sources, destinations } = read;
  for (const family of sources && destinations ? families : []) {
    if ((sources![family].length === 0) === (destinations![family].length === 0)) continue;
    const [there, missing] =
      sources![family].length === 0 ? ['destinations', 'sources'] : ['sources', 'destinations'];
    throw codedError(
      'ERR_RULES_CONTRADICTION',
      `${option}.${there} names ${family} addresses and ${option}.${missing} none, so none of them can match`,
    );
  }
  return read;
}

function matches(
  option: string,
  value: FlowMatch | readonly FlowMatch[],
  families: readonly Family[],
): Match[] {
  if (!Array.isArray(value)) return [match(option, value as FlowMatch, families)];
  return (value as readonly FlowMatch[]).map((entry, i) => match(`${option}[${i}]`, entry, families));
}

const DIRECTION_FIELDS = ['mode', 'port', 'protocols', 'include', 'exclude'];

function direction(
  option: string,
  value: DirectionRules,
  families: readonly Family[],
  more: readonly string[],
): Direction {
  checkObject(option, value, [...DIRECTION_FIELDS, ...more]);
  checkInteger(`${option}.port`, value.port, 1, 65535);
  return {
    mode: oneOf(`${option}.mode`, value.mode, ['redirect', 'tproxy']),
    port: value.port,
    protocols:
      value.protocols === undefined
        ? ['tcp']
        : someOf(`${option}.protocols`, value.protocols, ['tcp', 'udp']),
    include: matches(`${option}.include`, value.include ?? {}, families),
    exclude: matches(`${option}.exclude`, value.exclude ?? [], families),
  };
}

function outbound(value: OutboundRules, families: readonly Family[]): Settings['outbound'] {
  const common = direction('outbound', value, families, ['loopback', 'hairpin']);
  if (value.hairpin !== undefined) checkObject('outbound.hairpin', value.hairpin, ['exceptPorts']);
  return {
    ...common,
    loopback: oneOf('outbound.loopback', value.loopback ?? 'bypass', ['bypass', 'capture']),
    hairpin: value.hairpin && {
      exceptPorts: ports('outbound.hairpin.exceptPorts', value.hairpin.exceptPorts),
    },
  };
}

function inbound(value: InboundRules, families: readonly Family[]): Settings['inbound'] {
  return {
    ...direction('inbound', value, families, ['scope']),
    scope: oneOf('inbound.scope', value.scope ?? 'host', ['host', 'any']),
  };
}

function gateway(value: GatewayRules, families: readonly Family[]): Settings['gateway'] {
  return {
    ...direction('gateway', value, families, ['forwarding']),
    forwarding: flag('gateway.forwarding', value.forwarding),
  };
}

function ids(option: string, value: readonly number[] | undefined, max: number): readonly number[] {
  const all = list(option, value);
  for (const id of all) checkInteger(option, id, 0, max);
  if (new Set(all).size !== all.length) overlap(option, `${all.join(', ')}: two of them`);
  return all;
}

function exempt(value: RulesConfig['exempt'], families: readonly Family[]): Settings['exempt'] {
  const given = value ?? {};
  checkObject('exempt', given, ['uids', 'gids', 'marks', 'cgroups', 'sources']);
  const cgroups = list('exempt.cgroups', given.cgroups);
  for (const path of cgroups) {
    if (typeof path === 'string' && /^[\w.@:\\-]+(\/[\w.@:\\-]+)*$/.test(path) && path.length < 256) continue;
    throw codedError('ERR_RULES_CGROUP', `exempt.cgroups: '${String(path)}' is no cgroup path`, {
      hint: 'write it from below the mount point, without a slash in front: system.slice/proxy.service',
    });
  }
  return {
    uids: ids('exempt.uids', given.uids, MAX_ID),
    gids: ids('exempt.gids', given.gids, MAX_ID),
    marks: readMarks('exempt.marks', list<number | string>('exempt.marks', given.marks)),
    cgroups,
    sources: addresses('exempt.sources', given.sources, families),
  };
}

/** Reads a configuration field by field: types, ranges, spelling. What the fields mean together comes later. */
export function readConfig(config: RulesConfig): Settings {
  checkObject('config', config, [
    'name',
    'families',
    'outbound',
    'inbound',
    'gateway',
    'dns',
    'exempt',
    'dropInvalid',
    'mark',
    'table',
    'sshConnection',
  ]);
  const { name = 'default', dns, mark = 1337, table = 133, sshConnection } = config;
  checkName(name);
  const families = someOf('families', config.families, FAMILIES);
  checkInteger('mark', mark, 1, 2 ** 32 - 3);
  // 253 to 255 are the kernel's default, main and local tables, 0 means none.
  checkInteger('table', table, 1, 2 ** 32 - 1);
  if (table >= 253 && table <= 255) {
    throw codedError('ERR_RULES_OPTION', `table: ${table} is one of the kernel’s own routing tables`);
  }
  if (dns !== undefined) {
    checkObject('dns', dns, ['port', 'servers']);
    checkInteger('dns.port', dns.port, 1, 65535);
  }
  if (sshConnection !== undefined && typeof sshConnection !== 'string') {
    throw invalidType('sshConnection', 'of type string', sshConnection);
  }
  return {
    name,
    families,
    outbound: config.outbound && outbound(config.outbound, families),
    inbound: config.inbound && inbound(config.inbound, families),
    gateway: config.gateway && gateway(config.gateway, families),
    dns: dns && {
      port: dns.port,
      servers: dns.servers && addresses('dns.servers', dns.servers, families),
    },
    exempt: exempt(config.exempt, families),
    dropInvalid: flag('dropInvalid', config.dropInvalid),
    mark,
    table,
    sshConnection,
  };
}

/** Throws unless `name` can be part of the names of tables and chains: chains of iptables have at most 28 characters. */
export function checkName(name: unknown): asserts name is string {
  if (typeof name === 'string' && /^[a-z0-9-]{1,15}$/.test(name)) return;
  throw codedError('ERR_RULES_NAME', `'${String(name)}' cannot name rules`, {
    hint: 'use 1 to 15 of a-z, 0-9 and -',
  });
}
