// Runs the tools that install rules.
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { codedError, type CodedError } from '../../errors.ts';
import type { Namespace } from '../../namespace/namespace.ts';
import { childProcess } from '../../node/on-demand.ts';
import { programPath, searchPath } from '../../programs.ts';
import type { RunStep, Step, StepResult } from '../types.ts';

/** What a terminal sends to its process group. */
const OF_A_TERMINAL = new Set<NodeJS.Signals | null>(['SIGINT', 'SIGQUIT', 'SIGHUP']);
const ATTEMPTS = 20;

/** Runs one command as a child process. */
export function runStep(step: Step): Promise<StepResult> {
  return runAgain(step, undefined);
}

/** The same in another network namespace, as its root. */
export function runStepIn(namespace: Namespace): RunStep {
  return (step) => runAgain(step, namespace);
}

async function runAgain(step: Step, namespace: Namespace | undefined): Promise<StepResult> {
  let attempts = 0;
  let ran;
  do {
    ran = await runOnce(step, namespace);
    attempts++;
    // A child leaves the process group only after fork(2). What reached it before that ended it ahead of execve(2):
    // the tool has not run. Seen with Ctrl-C held down, on a busy machine.
  } while (OF_A_TERMINAL.has(ran.signal) && attempts < ATTEMPTS);
  const { signal: _signal, ...result } = ran;
  return result;
}

function runOnce(
  { command: [program, ...args], stdin }: Step,
  namespace: Namespace | undefined,
): Promise<StepResult & { signal: NodeJS.Signals | null }> {
  return new Promise((resolve) => {
    const options = {
      // A session of its own: Ctrl-C at the terminal is for this process, which may be about to clean up. In the same
      // process group the tool would die of it, half done.
      detached: true,
      // Messages are matched and shown: not in the user's language.
      env: { ...process.env, LC_ALL: 'C', PATH: searchPath() },
    };
    const path = programPath(program);
    const child = namespace
      ? (namespace.spawn(path, args, { ...options, root: true }) as ChildProcessWithoutNullStreams)
      : childProcess().spawn(path, args, options);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', ({ code }: NodeJS.ErrnoException) =>
      resolve({ status: code === 'ENOENT' ? null : -1, signal: null, stdout, stderr }),
    );
    // Without an exit status a signal ended it.
    child.on('close', (status, signal) => resolve({ status: status ?? -1, signal, stdout, stderr }));
    // The program may have ended, or never begun, before it read all: its status tells.
    child.stdin.on('error', () => {});
    child.stdin.end(stdin);
  });
}

/** The command as it is typed into a shell, what it reads from standard input not included. */
export function commandLine({ command }: Pick<Step, 'command'>): string {
  return command
    .map((word) => (/^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(' ');
}

const PACKAGES: Record<string, string> = {
  nft: 'nftables',
  iptables: 'iptables',
  ip6tables: 'iptables',
  ip: 'iproute2',
};

/** The error for a command that did not succeed. */
export function stepError(step: Step, { status, stderr }: StepResult): CodedError {
  const [program] = step.command;
  const line = commandLine(step);
  if (status === null) {
    const name = PACKAGES[program.replace(/-(save|restore)$/, '')];
    return codedError('ERR_RULES_TOOL_MISSING', `${line}: there is no program ${program} here`, {
      hint: name === undefined ? 'install it' : `install the package ${name}, or use the other back-end`,
    });
  }
  const said = stderr.trim();
  if (/Operation not permitted|Permission denied|you must be root/i.test(said)) {
    return codedError('ERR_RULES_PERMISSION', `${line}: ${said}`, {
      hint: 'changing rules needs CAP_NET_ADMIN in this network namespace: run as root, or in a container add the capability NET_ADMIN',
    });
  }
  return codedError('ERR_RULES_COMMAND', `${line} failed with status ${status}: ${said}`, {
    hint: `it was run to ${step.why}`,
  });
}
