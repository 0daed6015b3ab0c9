// What tells the proxy to end: a signal, or a fault that nothing has caught.
import { readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { inspect } from 'node:util';
import { complain } from './output.ts';

/** npm with bash, and whoever sends to a process group, delivers one Ctrl-C twice within milliseconds. */
const ONE_REQUEST_MS = 500;

const O_ACCMODE = 3;
const O_WRONLY = 1;

/**
 * Did nohup(1) start this? It has SIGHUP ignored, but Node sets every signal back to its default when it starts, so that
 * SigIgn in /proc/self/status does not show it any more. What is left is the name of the command that bash and zsh leave
 * in `_`, and what nohup does to a standard input that was a terminal: /dev/null, opened for writing.
 */
export function underNohup(command = process.env['_'] ?? '', proc = '/proc/self'): boolean {
  if (basename(command) === 'nohup') return true;
  try {
    const [, flags = '0'] = /^flags:\t(\d+)$/m.exec(readFileSync(`${proc}/fdinfo/0`, 'utf8')) ?? [];
    return (
      (Number.parseInt(flags, 8) & O_ACCMODE) === O_WRONLY && readlinkSync(`${proc}/fd/0`) === '/dev/null'
    );
  } catch {
    return false;
  }
}

/** What has been asked for: nothing yet, an end in good order, an end at once. */
export class Ending {
  /** Resolves when this process is to end. */
  readonly asked: Promise<void>;
  /** Resolves when there was a fault. Then this is over, in whatever state it is. */
  readonly fault: Promise<void>;
  readonly #hurry = new AbortController();
  #since: number | undefined;
  #ask!: () => void;
  #fail!: () => void;
  #failed = false;

  constructor() {
    this.asked = new Promise((resolve) => (this.#ask = resolve));
    this.fault = new Promise((resolve) => (this.#fail = resolve));
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => this.#onSignal());
    // Without a listener a hang-up would end this process at once, ignored or not.
    const ignored = underNohup();
    process.on('SIGHUP', () => {
      if (!ignored) this.#onSignal();
    });
    // Also what a promise was rejected with and nobody handles.
    process.on('uncaughtException', (fault) => this.#onFault(fault));
  }

  /** Aborted when nothing is to be waited for any longer. */
  get hurry(): AbortSignal {
    return this.#hurry.signal;
  }

  get failed(): boolean {
    return this.#failed;
  }

  #onSignal(): void {
    const now = performance.now();
    if (this.#since !== undefined && now - this.#since > ONE_REQUEST_MS) this.#hurry.abort();
    this.#since ??= now;
    this.#ask();
  }

  #onFault(fault: unknown): void {
    this.#failed = true;
    complain(inspect(fault));
    this.#hurry.abort();
    this.#ask();
    this.#fail();
  }
}
