// A configuration, read and completed.
import { checkInteger, invalidType } from '../../arguments.ts';
import { codedError } from '../../errors.ts';
import type {
  DirectionRules,
  Family,
  GatewayRules,
  InboundRules,
  OtherwiseRules,
  OutboundMatch,
  OutboundRules,
  Protocol,
  RulesConfig,
} from './config.ts';
import { addresses, checkObject, flag, ids, list, oneOf, ports, someOf } from './fields.ts';
import { readMarks, type Masked } from './marks.ts';
import { matches, type Match, type More } from './match.ts';
import { readLocalhost } from './localhost.ts';
import { inboundSourceMark, preservesAlways } from './preserve-source.ts';
import type { Range } from './ranges.ts';

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
    | (Direction & {
        loopback: 'bypass' | 'capture';
        hairpin: { port: number | undefined; exceptPorts: Range[] } | undefined;
        otherwise: 'pass' | 'reject';
      })
    | undefined;
  /** `sourceMark`: the mark of what the proxy dials with its clients' addresses, where the answers are brought back. */
  inbound: (Direction & { scope: 'host' | 'any'; sourceMark: number | undefined }) | undefined;
  gateway:
    (Direction & { forwarding: boolean; preserveSource: boolean; otherwise: 'pass' | 'reject' }) | undefined;
  dns: { port: number; servers: Record<Family, Range[]> | undefined } | undefined;
  exempt: {
    uids: readonly number[];
    gids: readonly number[];
    marks: readonly Masked[];
    cgroups: readonly string[];
    sources: Record<Family, Range[]>;
  };
  /** A prefix of each family. */
  localhost: Record<Family, string>;
  dropInvalid: boolean;
  mark: number;
  table: number;
  sshConnection: string | undefined;
}

const FAMILIES: readonly Family[] = ['IPv4', 'IPv6'];
const DIRECTION_FIELDS = ['mode', 'port', 'protocols', 'include', 'exclude'];

function direction(
  option: string,
  value: DirectionRules<OutboundMatch>,
  families: readonly Family[],
  more: readonly string[],
  owners: readonly More[] = [],
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
    include: matches(`${option}.include`, value.include ?? {}, families, [...owners, 'proxyPort']),
    exclude: matches(`${option}.exclude`, value.exclude ?? [], families, owners),
  };
}

function otherwise(option: string, value: OtherwiseRules): 'pass' | 'reject' {
  return oneOf(`${option}.otherwise`, value.otherwise ?? 'pass', ['pass', 'reject']);
}

function outbound(value: OutboundRules, families: readonly Family[]): Settings['outbound'] {
  const common = direction(
    'outbound',
    value,
    families,
    ['loopback', 'hairpin', 'otherwise'],
    ['uids', 'gids'],
  );
  if (value.hairpin !== undefined) {
    checkObject('outbound.hairpin', value.hairpin, ['port', 'exceptPorts']);
    if (value.hairpin.port !== undefined) checkInteger('outbound.hairpin.port', value.hairpin.port, 1, 65535);
  }
  return {
    ...common,
    otherwise: otherwise('outbound', value),
    loopback: oneOf('outbound.loopback', value.loopback ?? 'bypass', ['bypass', 'capture']),
    hairpin: value.hairpin && {
      port: value.hairpin.port,
      exceptPorts: ports('outbound.hairpin.exceptPorts', value.hairpin.exceptPorts),
    },
  };
}

function inbound(value: InboundRules, families: readonly Family[], mark: number): Settings['inbound'] {
  return {
    ...direction('inbound', value, families, ['scope', 'preserveSource']),
    scope: oneOf('inbound.scope', value.scope ?? 'host', ['host', 'any']),
    sourceMark: inboundSourceMark(value, mark),
  };
}

function gateway(value: GatewayRules, families: readonly Family[]): Settings['gateway'] {
  return {
    ...direction('gateway', value, families, ['forwarding', 'preserveSource', 'otherwise']),
    otherwise: otherwise('gateway', value),
    forwarding: flag('gateway.forwarding', value.forwarding),
    preserveSource: preservesAlways('gateway', value) || flag('gateway.preserveSource', value.preserveSource),
  };
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
    uids: ids('exempt.uids', given.uids),
    gids: ids('exempt.gids', given.gids),
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
    'localhost',
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
    inbound: config.inbound && inbound(config.inbound, families, mark),
    gateway: config.gateway && gateway(config.gateway, families),
    dns: dns && {
      port: dns.port,
      servers: dns.servers && addresses('dns.servers', dns.servers, families),
    },
    exempt: exempt(config.exempt, families),
    localhost: readLocalhost(config.localhost, families),
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
