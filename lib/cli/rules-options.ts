// The options that describe rules, and the configuration that they make.
import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError } from 'commander';
import { sidecar } from '../rules/config/sidecar.ts';
import type {
  Backend,
  DirectionRules,
  ExemptRules,
  Family,
  FlowMatch,
  InboundRules,
  Mode,
  OtherwiseRules,
  OutboundMatch,
  PortRange,
  RulesConfig,
  SidecarOptions,
} from '../rules/index.ts';
import { cidr, family, id, integer, list, mark, port, portRange } from './arguments.ts';
import { choice } from './help.ts';

/** The mark of a proxy's own connections when rules have to tell them from others; not one that tproxy uses. */
export const OWN_MARK = 1340;

/** Which flows the rules catch: the options that `proxy --with-rules` has too. */
export interface FlowOptions {
  direction?: 'outbound' | 'inbound' | 'gateway';
  family?: Family[];
  ports?: PortRange[];
  to?: string[];
  interfaces?: string[];
  uid?: number[];
  gid?: number[];
  excludePorts?: PortRange[];
  exclude?: string[];
  exemptUid?: number[];
  exemptGid?: number[];
  exemptMark?: number[];
  exemptCgroup?: string[];
  loopback?: true;
  otherwise?: 'pass' | 'reject';
  dropInvalid?: true;
  name?: string;
  backend?: Backend;
  tproxyMark?: number;
  table?: number;
}

/** The options of `rules print`, `apply` and `verify`. */
export interface RulesOptions extends FlowOptions {
  preset?: 'sidecar';
  config?: RulesConfig;
  mode?: Mode;
  port?: number;
  dns?: number | true;
  preserveSource?: true;
}

const word = (text: string) => text;

export function addFlowOptions(command: Command): Command {
  return command
    .addOption(
      choice(
        '--direction <direction>',
        'connections that this host makes, gets, or forwards (default: outbound)',
        ['outbound', 'inbound', 'gateway'],
      ),
    )
    .option('--family <4|6>', 'only this address family (default: both)', list(family))
    .option('--ports <ports>', 'only these destination ports: 80,443,8000-8999', list(portRange))
    .option('--to <cidrs>', 'only these destinations: 10.0.0.0/8,2001:db8::/32', list(cidr))
    .option('--interfaces <names>', 'only these interfaces: eth0,veth*', list(word))
    .option('--uid <uids>', 'only what these users dial, DNS too', list(id))
    .option('--gid <gids>', 'only what programs of these groups dial, DNS too', list(id))
    .option('--exclude-ports <ports>', 'not these destination ports', list(portRange))
    .option('--exclude <cidrs>', 'not these destinations', list(cidr))
    .option('--exempt-uid <uids>', 'not what these users send: the proxy’s own', list(id))
    .option('--exempt-gid <gids>', 'not what these groups send', list(id))
    .option('--exempt-mark <marks>', 'not what carries these marks (SO_MARK)', list(mark))
    .option('--exempt-cgroup <paths>', 'not what these cgroups send: system.slice/proxy.service', list(word))
    .option('--loopback', 'also connections within this host')
    .addOption(
      choice(
        '--otherwise <what>',
        'what is not captured: pass, or be refused at once, but for DNS, time and whatever else --exclude-ports names (default: pass)',
        ['pass', 'reject'],
      ),
    )
    .option('--drop-invalid', 'drop packets that conntrack calls INVALID')
    .option('--name <name>', 'name of the tables and chains (default: default)')
    .addOption(
      choice('--backend <backend>', 'who installs the rules (default: nftables)', ['nftables', 'iptables']),
    )
    .option('--tproxy-mark <mark>', 'mark that is routed to this host by tproxy (default: 1337)', mark)
    .option('--table <number>', 'routing table of tproxy (default: 133)', integer(1, 2 ** 32 - 1));
}

function configFile(path: string): RulesConfig {
  try {
    return JSON.parse(readFileSync(path === '-' ? 0 : path, 'utf8')) as RulesConfig;
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

export function addRulesOptions(command: Command): Command {
  command
    .optionsGroup('What is to be intercepted, one of three:')
    .addOption(choice('--preset <preset>', 'the rules of a service mesh’s sidecar', ['sidecar']))
    .option(
      '--config <file>',
      'a configuration of original-dst/rules in JSON (-: standard input)',
      configFile,
    )
    .option('--port <port>', 'the port the proxy listens at', port)
    .optionsGroup('With --port:')
    .addOption(
      choice('--mode <mode>', 'how connections reach it (default: redirect)', ['redirect', 'tproxy']),
    )
    .option('--dns [port]', 'capture DNS queries too, to this port', port)
    .option('--preserve-source', 'bring the answers back to a proxy that dials with its clients’ addresses');
  return addFlowOptions(command);
}

/** Leaves out what is undefined: `exactOptionalPropertyTypes`, and the rules refuse an option they do not know. */
function given<T extends object>(fields: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
}

function exclusions({ excludePorts, exclude }: FlowOptions): FlowMatch[] {
  return [
    ...(excludePorts === undefined ? [] : [{ ports: excludePorts }]),
    ...(exclude === undefined ? [] : [{ destinations: exclude }]),
  ];
}

/** What a configuration has besides flows. */
export interface FlowConfigMore {
  dns?: number | undefined;
  preserveSource?: InboundRules['preserveSource'] | undefined;
}

/** The configuration for one direction, from options. */
export function flowConfig(
  options: FlowOptions,
  mode: Mode,
  proxyPort: number,
  { dns, preserveSource }: FlowConfigMore,
): RulesConfig {
  const { direction = 'outbound', ports, to, interfaces, uid: uids, gid: gids, otherwise } = options;
  const rules = given<DirectionRules<OutboundMatch> & OtherwiseRules>({
    mode,
    port: proxyPort,
    include: given<OutboundMatch>({ ports, destinations: to, interfaces, uids, gids }),
    exclude: exclusions(options),
    otherwise,
  });
  const exempt = given<ExemptRules>({
    uids: options.exemptUid,
    gids: options.exemptGid,
    marks: options.exemptMark,
    cgroups: options.exemptCgroup,
  });
  const capture = options.loopback && direction === 'outbound' ? { loopback: 'capture' as const } : {};
  return {
    ...given<Pick<RulesConfig, 'name' | 'families' | 'mark' | 'table' | 'dropInvalid'>>({
      name: options.name,
      families: options.family,
      mark: options.tproxyMark,
      table: options.table,
      dropInvalid: options.dropInvalid,
    }),
    [direction]: { ...rules, ...capture, ...given({ preserveSource }) },
    exempt,
    ...(dns === undefined ? {} : { dns: { port: dns } }),
  };
}

/** Options that are about what this host sends. */
const OUTBOUND_OPTIONS = [
  'loopback',
  'uid',
  'gid',
  'exemptUid',
  'exemptGid',
  'exemptMark',
  'exemptCgroup',
] as const;

/** Refuses options that the direction has no use for: whoever gives them believes that they do something. */
export function checkFlow(command: Command, options: FlowOptions): void {
  const { direction = 'outbound' } = options;
  if (direction === 'outbound') return;
  if (direction === 'inbound' && options.otherwise !== undefined) {
    command.error('error: --otherwise is about outbound and gateway connections, not inbound ones', {
      exitCode: 2,
    });
  }
  const stray = OUTBOUND_OPTIONS.find((name) => options[name] !== undefined);
  if (stray === undefined) return;
  command.error(`error: ${flagOf(command, stray)} is about outbound connections, not ${direction} ones`, {
    exitCode: 2,
  });
}

/** An option as it is written, by the name of its value. */
function flagOf(command: Command, name: string): string {
  return command.options.find((option) => option.attributeName() === name)!.long!;
}

/** What each preset can be told; every other option belongs to `--port`. */
const PRESET_OPTIONS = new Set([
  'preset',
  'mode',
  'dns',
  'family',
  'name',
  'backend',
  'gid',
  'exclude',
  'excludePorts',
  'exemptUid',
  'exemptGid',
  'tproxyMark',
  'table',
  'json',
  'yes',
]);

/** What goes with a configuration, which says everything else itself. */
const CONFIG_OPTIONS = new Set(['config', 'backend', 'json', 'yes']);

function presetConfig(command: Command, options: RulesOptions): RulesConfig {
  const stray = Object.keys(options).find((name) => !PRESET_OPTIONS.has(name));
  if (stray !== undefined || typeof options.dns === 'number') {
    const what = stray === undefined ? 'a port of --dns' : flagOf(command, stray);
    command.error(`error: --preset sidecar cannot be combined with ${what}`, { exitCode: 2 });
  }
  return sidecar(
    given<SidecarOptions>({
      name: options.name,
      families: options.family,
      inbound: options.mode,
      outboundGids: options.gid,
      excludeOutboundPorts: options.excludePorts,
      excludeOutboundCidrs: options.exclude,
      dns: options.dns === true ? true : undefined,
      proxyUid: options.exemptUid,
      proxyGid: options.exemptGid,
      mark: options.tproxyMark,
      table: options.table,
    }),
  );
}

/** The configuration that the options of a `rules` command ask for. */
export function rulesConfig(command: Command, options: RulesOptions): RulesConfig {
  const chosen = (['preset', 'config', 'port'] as const).filter((name) => options[name] !== undefined);
  if (chosen.length !== 1) {
    command.error('error: give one of --preset, --config and --port', { exitCode: 2 });
  }
  if (options.preset !== undefined) return presetConfig(command, options);
  if (options.config !== undefined) {
    const stray = Object.keys(options).find((name) => !CONFIG_OPTIONS.has(name));
    if (stray !== undefined) {
      command.error(`error: --config cannot be combined with ${flagOf(command, stray)}`, { exitCode: 2 });
    }
    return options.config;
  }
  if (options.dns === true) command.error('error: --dns needs the port of the resolver', { exitCode: 2 });
  checkFlow(command, options);
  const { dns, preserveSource, direction = 'outbound', mode = 'redirect' } = options;
  if (preserveSource && direction === 'outbound') {
    command.error('error: --preserve-source is about inbound and gateway connections, not outbound ones', {
      exitCode: 2,
    });
  }
  return flowConfig(options, mode, options.port!, { dns, preserveSource });
}
