// A process that outlives the proxy, to remove its rules when the proxy was killed.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('rules-guard-process.js', import.meta.url));

/** How long the guard, which has nothing to do, may take to end. */
const END_MS = 1000;

/**
 * SIGKILL leaves no time to clean up, and rules that lead to a closed port lead to whoever binds it next. The guard
 * knows of the end by a pipe, whatever the end was. nftables could tie a table to the netlink socket that made it (flag
 * `owner`): iptables cannot, nor ip rule, and nft(8) would have to stay open as the owner, in a process too.
 */
export class RulesGuard {
  readonly #process: ChildProcess;
  readonly #pipe: Writable;

  private constructor(process: ChildProcess, pipe: Writable) {
    this.#process = process;
    this.#pipe = pipe;
  }

  /** From now on the rules of that name do not outlive this process. */
  static async start(name: string): Promise<RulesGuard> {
    const child = spawn(process.execPath, [...process.execArgv, PROGRAM, name], {
      // A session of its own: what ends this process by way of its terminal or its process group does not end it.
      detached: true,
      cwd: '/',
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    await once(child, 'spawn');
    child.unref();
    const pipe = child.stdin;
    // It may have been killed; then there is nobody to tell.
    pipe.on('error', () => {});
    (pipe as unknown as { unref: () => void }).unref();
    return new RulesGuard(child, pipe);
  }

  /** The rules are gone: nothing is left to do. */
  async release(): Promise<void> {
    this.#pipe.end('released');
    /* c8 ignore next -- it ends before that only where somebody has killed it */
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.ref();
    await once(this.#process, 'exit', { signal: AbortSignal.timeout(END_MS) }).catch(() => {});
    this.#process.unref();
  }
}
