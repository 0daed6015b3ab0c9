// What the service manager that has started this process is told: sd_notify(3).
import { binding } from '../binding.ts';

const MICROSECONDS = 1000;

/**
 * `NOTIFY_SOCKET` (systemd's `Type=notify`), `WATCHDOG_USEC` and `WATCHDOG_PID`, which are taken out of the environment:
 * programs that this one starts must not think that they are meant. Where none is set nobody is told anything, and what
 * cannot be told is not complained about: the service manager does, when it has waited for long enough.
 */
export class ServiceManager {
  readonly #socket: string | undefined;
  readonly #watchdog: NodeJS.Timeout | undefined;

  constructor(env: NodeJS.ProcessEnv, pid: number) {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: interval = '', WATCHDOG_PID: watched = String(pid) } = env;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
    this.#socket = socket;
    if (socket === undefined || watched !== String(pid) || !/^[1-9]\d*$/.test(interval)) return;
    // Half of the time after which it takes this process for dead, as sd_watchdog_enabled(3) advises.
    const halfMs = Math.max(1, Math.floor(Number(interval) / MICROSECONDS / 2));
    this.#watchdog = setInterval(() => this.#tell('WATCHDOG=1'), halfMs).unref();
  }

  /** It works, and how. */
  ready(status: string): void {
    this.#tell(`READY=1\nSTATUS=${status}`);
  }

  /** It comes to its end, which may take so long. */
  stopping(status: string, mostMs: number): void {
    this.#tell(`STOPPING=1\nSTATUS=${status}\nEXTEND_TIMEOUT_USEC=${mostMs * MICROSECONDS}`);
  }

  /** Nobody is told anything from now on. */
  close(): void {
    clearInterval(this.#watchdog);
  }

  #tell(text: string): void {
    if (this.#socket !== undefined) binding().notifyService(this.#socket, text);
  }
}
