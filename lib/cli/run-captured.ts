// Runs a command captured: its terminal, signals and exit status are the command's own.
import type { ChildProcess } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { createCapture, type Capture } from '../capture/index.ts';
import { NamePolicy, type NamePolicyRules } from '../policy/name-policy.ts';
import { complain } from './output.ts';
import type { PortPair } from './run-command.ts';
import { RunReport } from './run-report.ts';

export interface RunOptions {
  allow?: string[];
  deny?: string[];
  policy?: string;
  udp: 'relay' | 'reject';
  dns: boolean;
  hostPort?: PortPair[];
  publish?: number[];
  envCa?: string;
  log?: string;
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

async function runChild(
  capture: Capture,
  program: string,
  args: string[],
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const child = capture.spawn(program, args, { stdio: 'inherit', env });
  const ignore = (): void => {};
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  for (const signal of OF_THE_TERMINAL) process.on(signal, ignore);
  for (const signal of PASSED_ON) process.on(signal, pass);
  return await statusOf(child);
}

/** `original-dst run`. The exit status is in process.exitCode. */
export async function runCaptured(program: string, args: string[], options: RunOptions): Promise<void> {
  const policy = policyOf(options);
  const capture = await createCapture({
    udp: options.udp,
    dns: options.dns,
    inspect: {},
    processes: options.log !== undefined,
    ...(policy === undefined ? {} : { policy }),
  });
  const { log } = options;
  const report = new RunReport(
    capture,
    log === undefined ? () => {} : (record) => appendFileSync(log, `${JSON.stringify(record)}\n`),
  );
  capture.on('error', (error) => complain(error.message));
  let status: number;
  try {
    for (const { inside, outside } of options.hostPort ?? []) await capture.hostPort(inside, outside);
    for (const port of options.publish ?? []) await capture.publish(port);
    const { envCa } = options;
    const trusted = envCa === undefined ? {} : Object.fromEntries(CA_VARIABLES.map((name) => [name, envCa]));
    status = await runChild(capture, program, args, { ...process.env, ...trusted });
  } finally {
    await capture.close();
  }
  if (!options.quiet) process.stderr.write(report.table());
  process.exitCode = options.failOnDenied && report.denied > 0 && status === 0 ? DENIED : status;
}
