// What becomes of a process whose terminal has gone.
import { isatty } from 'node:tty';

const terminals = [0, 1, 2].filter((fd) => isatty(fd));

/**
 * Ends this process as a hang-up ends those that do not catch it, if its terminal has gone. Node restores a terminal's
 * settings when it exits, and aborts when there is none any more: a core dump in place of an exit status.
 */
export function endWithTerminal(): void {
  if (terminals.every((fd) => isatty(fd))) return;
  /* c8 ignore next 3 -- nothing that would count it outlives it */
  process.removeAllListeners('SIGHUP');
  process.kill(process.pid, 'SIGHUP');
}
