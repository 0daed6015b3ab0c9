// Runs a command captured: its terminal, signals and exit status are the command's own.
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { type CaptureOptions, createCapture } from '../capture/index.ts';
import { NamePolicy, type NamePolicyRules } from '../policy/name-policy.ts';
import type { ProxyServer } from '../dial/proxy-server.ts';
import { complain } from './output.ts';
import type { PortPair } from './run-command.ts';
import { type LogTarget, RunLog } from './run-log.ts';
import { RunReport } from './run-report.ts';

export interface RunOptions {
  capture?: 'namespace' | 'ebpf';
  allow?: string[];
  deny?: string[];
  policy?: string;
  via?: ProxyServer;
  udp?: 'relay' | 'reject';
  dns: boolean;
  hostPort?: PortPair[];
  publish?: number[];
  envCa?: string;
  log?: LogTarget;
  logFormat: 'text' | 'json';
  quiet?: boolean;
  failOnDenied?: boolean;
}

const DENIED = 3;
const NOT_FOUND = 127;
/** Where programs look for certificates of their own choosing. */
const CA_VARIABLES = [
  'NODE_EXTRA_CA_CERTS',
  'SSL_CERT_FILE',
  'CURL_CA_BUNDLE',
  'REQUESTS_CA_BUNDLE',
  'GIT_SSL_CAINFO',
];
/** The terminal sends them to the command too: it decides. */
const OF_THE_TERMINAL = ['SIGINT', 'SIGQUIT'] as const;
const PASSED_ON = ['SIGTERM', 'SIGHUP', 'SIGUSR2'] as const;

function policyOf({ allow, deny, policy }: RunOptions): NamePolicy | undefined {
  if (allow === undefined && deny === undefined && policy === undefined) return undefined;
  const file = policy === undefined ? {} : (JSON.parse(readFileSync(policy, 'utf8')) as NamePolicyRules);
  const all = {
    allow: [...(file.allow ?? []), ...(allow ?? [])],
    deny: [...(file.deny ?? []), ...(deny ?? [])],
  };
  const none = all.allow.length === 0;
  const { allow: _, ...denials } = all;
  return new NamePolicy({ ...file, ...(none ? denials : all) });
}

/** Its exit status, as a shell has it. */
function statusOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    child.on('error', (error) => {
      complain(error.message);
      resolve(NOT_FOUND);
    });
    child.on('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal!]));
  });
}

/** What this process does about signals for as long as the command runs, and until it has reported. */
class Signals {
  readonly #handlers = new Map<NodeJS.Signals, (signal: NodeJS.Signals) => void>();

  passTo(child: ChildProcess): void {
    for (const signal of OF_THE_TERMINAL) this.#handlers.set(signal, () => {});
    for (const signal of PASSED_ON) this.#handlers.set(signal, () => void child.kill(signal));
    for (const [signal, handler] of this.#handlers) process.on(signal, handler);
  }

  release(): void {
    for (const [signal, handler] of this.#handlers) process.off(signal, handler);
  }
}

/** By another proxy, which takes no datagrams. */
function wayOut({ via, udp = 'relay' }: RunOptions): CaptureOptions {
  return via === undefined ? { udp } : { udp: 'reject', decide: () => ({ action: 'relay', via }) };
}

async function startCapture(options: RunOptions, policy: NamePolicy | undefined) {
  if (options.capture === 'ebpf') {
    const { CgroupCapture } = await import('./run-ebpf.ts');
    return CgroupCapture.start(policy, options.via);
  }
  return createCapture({
    ...wayOut(options),
    dns: options.dns,
    inspect: {},
    processes: options.log !== undefined,
    ...(policy === undefined ? {} : { policy }),
  });
}

/** `original-dst run`. The exit status is in process.exitCode. */
export async function runCaptured(program: string, args: string[], options: RunOptions): Promise<void> {
  const policy = policyOf(options);
  const { log: target, logFormat } = options;
  const log = target === undefined ? undefined : new RunLog(target, logFormat);
  const capture = await startCapture(options, policy);
  const report = new RunReport(capture, (record) => log?.write(record));
  capture.on('error', (error) => complain(error.message));
  let status: number;
  const signals = new Signals();
  try {
    if ('hostPort' in capture) {
      for (const { inside, outside } of options.hostPort ?? []) await capture.hostPort(inside, outside);
      for (const port of options.publish ?? []) await capture.publish(port);
    }
    const { envCa } = options;
    const trusted = envCa === undefined ? {} : Object.fromEntries(CA_VARIABLES.map((name) => [name, envCa]));
    const env = { ...process.env, ...trusted };
    const child = capture.spawn(program, args, { stdio: 'inherit', env });
    signals.passTo(child);
    status = await statusOf(child);
  } finally {
    await capture.close();
    await log?.end();
  }
  if (!options.quiet) process.stderr.write(report.table());
  process.exitCode = options.failOnDenied && report.denied > 0 && status === 0 ? DENIED : status;
  signals.release();
}
