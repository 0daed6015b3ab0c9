// The self-test of the doctor: real rules and real connections in a namespace of their own.
import { fileURLToPath } from 'node:url';
import { formatEndpoint } from '../address.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { Context } from './context.ts';
import { type Finding, Findings } from './finding.ts';
import { runIn } from './scratch.ts';
import type { Trial } from './self-test-inside.ts';

function describe(recovered: OriginalDst): string {
  if (recovered.kind === 'unknown') return `unknown, ${recovered.cause.code}`;
  return `${recovered.kind} ${formatEndpoint(recovered)}`;
}

/**
 * Sends a connection and a datagram through each mode, with this package, in a network namespace of its own, and reports what was
 * recovered. lib/doctor/self-test-inside.ts is the program that runs there.
 */
export async function selfTest(context: Context): Promise<Finding[]> {
  const overall = new Findings('self-test');
  const scratch = await context.scratch();
  if ('refused' in scratch) {
    return [overall.warning('no self-test', `No scratch namespace could be made: ${scratch.refused}.`)];
  }
  const inside = fileURLToPath(new URL('self-test-inside.js', import.meta.url));
  const node = [process.execPath, ...process.execArgv, inside];
  const { status, stdout, stderr } = await runIn(context.host, scratch.prefix, node);
  if (status !== 0) {
    return [overall.problem('the self-test did not run to its end', stderr.trim())];
  }
  return (JSON.parse(stdout) as Trial[]).map(({ id, name, dialled, expected, recovered, error }) => {
    const finding = new Findings(`self-test-${id}`);
    const answer = error ?? describe(recovered!);
    return answer === expected
      ? finding.ok(
          `${name}: ${answer}`,
          `What was sent to ${dialled} was intercepted, its destination recovered, and the answer came back.`,
        )
      : finding.problem(
          `${name}: ${answer}`,
          `What was sent to ${dialled} should have been recovered as ${expected}. Other findings may say why.`,
        );
  });
}
