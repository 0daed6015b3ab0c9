// diagnose(): what keeps interception from working here, and what to do about it.
/**
 * What keeps interception from working here, and what to do about it.
 *
 * @module original-dst/doctor
 */
import { checkBoolean, checkInteger, invalidType, outOfRange } from '../arguments.ts';
import { codedError } from '../errors.ts';
import { checkNamespace, type Namespace } from '../namespace/namespace.ts';
import { binary } from './checks/binary.ts';
import { bridges } from './checks/bridges.ts';
import { capabilities } from './checks/capabilities.ts';
import { cgroupBpf } from './checks/cgroup-bpf.ts';
import { commandCapture } from './checks/command-capture.ts';
import { cgroupExemption } from './checks/cgroup-exemption.ts';
import { conntrack } from './checks/conntrack.ts';
import { conntrackTable } from './checks/conntrack-table.ts';
import { container } from './checks/container.ts';
import { ebpfCapture } from './checks/ebpf-capture.ts';
import { firewall } from './checks/firewall.ts';
import { gvisor } from './checks/gvisor.ts';
import { interfaces } from './checks/interfaces.ts';
import { ipForward } from './checks/ip-forward.ts';
import { iptablesBackends } from './checks/iptables-backends.ts';
import { ipv6Bypass } from './checks/ipv6-bypass.ts';
import { kernel } from './checks/kernel.ts';
import { listener } from './checks/listener.ts';
import { namespaces } from './checks/namespaces.ts';
import { policyRouting } from './checks/policy-routing.ts';
import { qemuUser } from './checks/qemu-user.ts';
import { routeLocalnet } from './checks/route-localnet.ts';
import { rpFilter } from './checks/rp-filter.ts';
import { rules } from './checks/rules.ts';
import { rulesOrder } from './checks/rules-order.ts';
import { srcValidMark } from './checks/src-valid-mark.ts';
import { natSupport, tproxySupport } from './checks/support.ts';
import { tools } from './checks/tools.ts';
import { wsl } from './checks/wsl.ts';
import { type Check, Context, type Subject } from './context.ts';
import type { Finding } from './finding.ts';
import { type Host, thisHost } from './host.ts';
import { diagnoseInside } from './inside.ts';
import { selfTest } from './self-test.ts';

export { worst, type Finding, type Level } from './finding.ts';
export type { HostFiles } from '../host-files.ts';
export type { Host, HostAddon } from './host.ts';

/** What {@link diagnose} is to look at. Without any of it, everything is read off the rules that are there. */
export interface DiagnoseOptions {
  /** The port that the proxy listens at. Default: every port that a rule leads to. */
  port?: number;
  /** How connections are meant to reach the proxy. Default: as the rules say. */
  mode?: 'redirect' | 'tproxy';
  /** The mark that TPROXY's policy routing goes by. Default: the one that the rules set. */
  mark?: number;
  /** `gateway` asks for forwarding too. */
  direction?: 'outbound' | 'inbound' | 'gateway';
  /** Also send connections and datagrams through each mode in a private network namespace. Default false. */
  selfTest?: boolean;
  /**
   * The network namespace that the diagnosis is about, as its root sees it: it is made by a process of Node in there.
   * Default: the one this process is in.
   */
  namespace?: Namespace;
  /** Where the facts are read. Default: the machine this process runs on. Not beside `namespace`. */
  host?: Host;
}

/** From the ground up: whoever reads from the top meets causes before their effects. */
const CHECKS: readonly Check[] = [
  kernel,
  gvisor,
  wsl,
  qemuUser,
  container,
  binary,
  tools,
  namespaces,
  commandCapture,
  capabilities,
  conntrack,
  conntrackTable,
  natSupport,
  tproxySupport,
  iptablesBackends,
  rules,
  rulesOrder,
  cgroupExemption,
  interfaces,
  bridges,
  listener,
  firewall,
  policyRouting,
  srcValidMark,
  rpFilter,
  routeLocalnet,
  ipForward,
  ipv6Bypass,
  cgroupBpf,
  ebpfCapture,
];

function checkOneOf(name: string, value: unknown, allowed: readonly string[]): void {
  if (value === undefined) return;
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value);
  if (!allowed.includes(value)) {
    throw outOfRange(name, allowed.map((each) => `'${each}'`).join(' or '), value);
  }
}

function subjectOf(options: DiagnoseOptions): Subject {
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  const { port, mode, mark, direction } = options;
  if (port !== undefined) checkInteger('options.port', port, 1, 65535);
  if (mark !== undefined) checkInteger('options.mark', mark, 1, 2 ** 32 - 1);
  checkOneOf('options.mode', mode, ['redirect', 'tproxy']);
  checkOneOf('options.direction', direction, ['outbound', 'inbound', 'gateway']);
  return {
    ...(port === undefined ? {} : { port }),
    ...(mode === undefined ? {} : { mode }),
    ...(mark === undefined ? {} : { mark }),
    ...(direction === undefined ? {} : { direction }),
  };
}

/**
 * Explains the environment of a transparent proxy: kernel, rights, connection tracking, rules, routes and listener
 * of the network namespace that this process is in, or of another.
 *
 * Reads, and never changes anything: what has to be tried is tried in a scratch namespace that ends with the trial.
 * (Reading netfilter's tables can make the kernel load the modules that hold them.) Takes well under a second,
 * with `selfTest` about one.
 *
 * @returns findings from the ground up; each `id` is a stable name. A question that does not arise has no finding.
 * @throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE` (as a rejection); with `namespace` also
 *   `ERR_DOCTOR_INSIDE` (the process in there did not run to its end). What is wrong with the machine is never thrown.
 * Capability: none; without CAP_NET_ADMIN the rules cannot be read, which is a finding.
 */
export async function diagnose(options: DiagnoseOptions = {}): Promise<Finding[]> {
  const subject = subjectOf(options);
  const { host = thisHost, selfTest: withSelfTest = false, namespace } = options;
  checkBoolean('options.selfTest', withSelfTest);
  if (namespace !== undefined) {
    checkNamespace('options.namespace', namespace);
    if (options.host !== undefined)
      throw codedError('ERR_INVALID_ARG_VALUE', 'Give either "options.namespace" or "options.host"');
    return diagnoseInside(namespace, { ...subject, selfTest: withSelfTest });
  }
  const context = new Context(host, subject);
  if (host.platform !== 'linux') return [...(await kernel(context))];
  const findings = (await Promise.all(CHECKS.map((check) => check(context)))).flat();
  return withSelfTest ? [...findings, ...(await selfTest(context))] : findings;
}
