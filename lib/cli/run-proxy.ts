// `original-dst proxy`, from start to end.
import { setTimeout as delay } from 'node:timers/promises';
import { formatEndpoint } from '../address.ts';
import type { ProxyServer } from '../dial/proxy-server.ts';
import type { Capture } from '../ebpf/index.ts';
import { apply, type ApplyOptions, remove, type RulePlan } from '../rules/index.ts';
import type { ListenAddress, Target } from './arguments.ts';
import { checkDialRights } from './dial-rights.ts';
import { drain, type ProxyRules } from './drain.ts';
import { egressPolicies } from './egress-list.ts';
import { Ending } from './ending.ts';
import { withFlags } from './flag-names.ts';
import { Forwarder } from './forwarder.ts';
import { MetricsServer } from './metrics-server.ts';
import { inspection, namePolicy, type NameOptions } from './name-rules.ts';
import { inheritedSocket } from './inherited-socket.ts';
import { complaint, type Paint } from './output.ts';
import { type LogFormat, ProxyOutput } from './proxy-output.ts';
import { type ProxyCaptureOptions, startCapture } from './proxy-capture.ts';
import { limitsOf, type ProxyLimits } from './proxy-limits.ts';
import { ServiceManager } from './service-manager.ts';
import { ownMark, proxyPlan, unfit } from './proxy-rules.ts';
import { RulesGuard } from './rules-guard.ts';

export interface ProxyOptions extends ProxyCaptureOptions, ProxyLimits, NameOptions {
  via?: ProxyServer;
  deny?: Target[];
  relay: boolean;
  idle: number;
  log: LogFormat;
  grace: number;
  metrics?: ListenAddress;
}

/** How long the end of connections may take that are not waited for any longer. */
const LAST_MS = 5000;

async function within(ms: number, end: Promise<void>): Promise<void> {
  const over = new AbortController();
  const timer = delay(ms, undefined, over).catch(() => {});
  await Promise.race([end, timer]);
  over.abort();
}

/** Installs the rules that lead to a port; nothing of them outlives this process. */
async function install(plan: RulePlan, options: ApplyOptions, port: number): Promise<ProxyRules> {
  const guard = await RulesGuard.start(plan.name);
  try {
    await apply(plan, options);
  } catch (error) {
    await guard.release();
    throw error;
  }
  return { plan, options, port, guard };
}

async function serve(
  options: ProxyOptions,
  output: ProxyOutput,
  forwarder: Forwarder,
  ending: Ending,
): Promise<void> {
  const { mode, withRules, backend, grace } = options;
  let rules: ProxyRules | undefined;
  let capture: Capture | undefined;
  let metrics: MetricsServer | undefined;
  const manager = new ServiceManager(process.env, process.pid);
  try {
    // Rules need more, and say so.
    if (!withRules) await checkDialRights(options.mark, options.preserveSource !== undefined);
    const passed = inheritedSocket(process.env, process.pid);
    if (passed && 'unused' in passed) output.say(passed.unused);
    const isPassed = passed !== undefined && 'fd' in passed;
    const address = await forwarder.listen(isPassed ? passed : options.listen);
    // Where it listens is known only now.
    const listen = isPassed ? { host: address.address, port: address.port } : options.listen;
    const reason = isPassed && withRules && unfit({ ...options, listen });
    if (reason) throw new Error(reason);
    if (options.metrics) {
      metrics = await MetricsServer.start(options.metrics, { proxy: forwarder.server });
      output.say(`metrics on http://${formatEndpoint(metrics.address)}/metrics`);
    }
    if (withRules) {
      const plan = proxyPlan({ ...options, listen }, address.port, (message) => output.say(message));
      rules = await install(
        plan,
        { hold: true, ...(backend === undefined ? {} : { backend }) },
        address.port,
      );
    }
    if (options.capture === 'ebpf') capture = await startCapture({ ...options, listen }, address.port);
    const how = capture ? `ebpf, capturing ${options.cgroup}` : `${mode}${rules ? ', rules installed' : ''}`;
    const status = `listening on ${formatEndpoint(address)} (${how})`;
    output.say(status);
    manager.ready(status);
    await ending.asked;
    if (ending.failed) return;
    // What comes from now on goes past this proxy, as with rules.
    capture?.close();
    manager.stopping('waiting for open connections', grace * 1000 + LAST_MS);
    output.say(`ending: open connections have ${grace} s, a second signal ends them at once`);
    await Promise.race([drain(forwarder, rules, grace * 1000, ending.hurry), ending.fault]);
  } finally {
    // The connections before the rules, without which no client would hear of the end of its own.
    forwarder.close();
    // After a fault one of them may not tell of its end any more.
    await within(LAST_MS, forwarder.drain(0));
    metrics?.close();
    manager.close();
    capture?.close();
    if (rules) {
      await remove(rules.plan.name);
      await rules.guard.release();
    }
  }
}

/** Runs until it is asked to end. The exit status is in process.exitCode. */
export async function runProxy(options: ProxyOptions, paint: Paint): Promise<void> {
  const { mode, preserveSource, idle, relay, via } = options;
  const mark = ownMark(options);
  const names = namePolicy(options);
  const inspect = inspection(options);
  const output = new ProxyOutput(options.log, paint, () => forwarder.totals);
  const forwarder = new Forwarder({
    transparent: mode === 'tproxy',
    dial: {
      ...(preserveSource === undefined ? {} : { preserveSource, portFallback: true }),
      ...(mark === undefined ? {} : { mark }),
    },
    ...(via === undefined ? {} : { via }),
    egress: egressPolicies(names === undefined ? options.allow : undefined, options.deny),
    ...(names === undefined ? {} : { names }),
    ...(inspect === undefined ? {} : { inspect }),
    limits: limitsOf(options),
    relay: { engine: relay ? 'any' : 'pipe', idleTimeout: idle * 1000 },
    onEnd: (record) => output.record(record),
  });
  const ending = new Ending();
  ending.hurry.addEventListener('abort', () => forwarder.destroy());
  try {
    await serve(options, output, forwarder, ending);
    if (ending.failed) process.exitCode = 1;
  } catch (error) {
    output.say(complaint(withFlags((error as Error).message, options, '--listen')));
    process.exitCode = 1;
  }
  // Lines that nobody reads would keep this process for ever.
  if (!(await output.end())) process.exit();
}
