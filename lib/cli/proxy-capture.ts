// `original-dst proxy --capture ebpf`: what programs of a cgroup dial comes to the proxy by BPF programs, without rules.
import { isWildcard } from '../address.ts';
import type { Capture } from '../ebpf/index.ts';
import { ownMark, type ProxyRulesOptions } from './proxy-rules.ts';
import { flowConfig } from './rules-options.ts';

export interface ProxyCaptureOptions extends ProxyRulesOptions {
  cgroup?: string;
}

/** Options of rules that say what is captured, not how rules do it. */
const FLOW_OPTIONS: ReadonlySet<string> = new Set<keyof ProxyCaptureOptions>([
  'exclude',
  'excludePorts',
  'exemptCgroup',
  'exemptMark',
  'exemptUid',
  'family',
  'ports',
  'to',
]);

/** Is an option of rules one of a capture's too? */
export function isFlowOption(name: string): boolean {
  return FLOW_OPTIONS.has(name);
}

/** Why these options do not go together, if they do not. */
export function unfitCapture({
  capture,
  cgroup,
  withRules,
  mode,
  listen,
  family,
}: ProxyCaptureOptions): string | undefined {
  if (capture !== 'ebpf')
    return cgroup === undefined ? undefined : '--cgroup is about --capture ebpf: add that';
  if (cgroup === undefined) return '--capture ebpf needs --cgroup: whose connections are captured';
  if (withRules) return '--capture ebpf and --with-rules exclude each other';
  if (mode === 'tproxy') return '--capture ebpf is no --mode of rules: leave --mode out';
  const ipv4Alone = listen.host === '0.0.0.0' && family?.every((each) => each === 'IPv4');
  if (isWildcard(listen.host) && (listen.host === '::' || ipv4Alone)) return undefined;
  return 'captured connections come in at addresses of their own: give --listen a port alone';
}

/** Attaches the programs that bring connections to the proxy; its own carry a mark and are left alone. */
export async function startCapture(options: ProxyCaptureOptions, port: number): Promise<Capture> {
  const { cgroup, family, exemptMark = [] } = options;
  const { outbound, exempt } = flowConfig(options, 'redirect', port, {});
  const { attachCapture } = await import('../ebpf/index.ts');
  return attachCapture({
    cgroup: cgroup!,
    port,
    ...(family && { families: family }),
    include: outbound!.include!,
    exclude: outbound!.exclude!,
    exempt: { ...exempt, marks: [ownMark(options)!, ...exemptMark] },
  });
}
