// What rules-guard.ts starts: waits for the end of the proxy, and removes the rules if the proxy has not.
import { setTimeout as delay } from 'node:timers/promises';
import type { CodedError } from '../errors.ts';
import { remove } from '../rules/index.ts';
import { complain } from './output.ts';

/** A command that the proxy had started may still be underway. */
const AGAIN_MS = 500;

// The proxy decides when it ends: systemd sends SIGTERM to both.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
// The standard error is the proxy's, whose reader may be gone.
process.stderr.on('error', () => {});

const name = process.argv[2]!;
let released = false;
for await (const _ of process.stdin) released = true;
if (!released) {
  try {
    const found = await remove(name);
    await delay(AGAIN_MS);
    if ((await remove(name)) || found) complain(`the proxy was killed: its rules, ${name}, are removed`);
  } catch (error) {
    // Another proxy was faster, and has taken them over.
    if ((error as Partial<CodedError>).code === 'ERR_RULES_HELD') process.exit();
    complain(`the proxy was killed, and its rules, ${name}, are still there: ${(error as Error).message}`);
  }
}
// Whoever reads the standard error may be stuck.
process.exit();
