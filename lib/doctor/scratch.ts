// A network namespace to try things in.
import type { StepResult } from '../rules/types.ts';
import type { Host } from './host.ts';

/** A way to run commands in a network namespace of their own that ends with them, or the reason why there is none. */
export type Scratch = { prefix: readonly string[] } | { refused: string };

/**
 * `unshare(CLONE_NEWUSER | CLONE_NEWNET)`. Needs no privilege where user namespaces are allowed; root, for whom they
 * may be forbidden too, can do without one.
 */
export async function findScratch(host: Host): Promise<Scratch> {
  const ways = [
    ['unshare', '-Urn'],
    ['unshare', '-n'],
  ];
  let refused = '';
  for (const prefix of ways) {
    const { status, stderr } = await runIn(host, prefix, ['true']);
    if (status === 0) return { prefix };
    refused ||= status === null ? 'there is no unshare(1); it is in util-linux' : stderr.trim();
  }
  return { refused };
}

/** Runs a command behind a prefix of {@link findScratch}. */
export function runIn(
  host: Host,
  prefix: readonly string[],
  command: readonly string[],
  input?: string,
): Promise<StepResult> {
  const [program, ...args] = [...prefix, ...command];
  return host.run(program!, args, input);
}
