// Under which names plans are installed here.
import { CHAIN_SUFFIX, chainName } from '../text/iptables.ts';
import { nftTable } from '../text/nftables.ts';
import type { RunStep } from '../types.ts';
import { SAVE } from './iptables-save.ts';
import { runStep } from './run.ts';

const NAME = '([a-z0-9-]{1,15})';
const TABLE = new RegExp(`^table ip6? ${nftTable(NAME)}$`, 'gm');
const CHAIN = new RegExp(`^:${chainName(NAME, '')}(?:${CHAIN_SUFFIX}) `, 'gm');

/**
 * The names under which {@link apply} has installed something in this network namespace, by either back-end, sorted.
 * A back-end that does not answer has none.
 *
 * Capability: CAP_NET_ADMIN. Source: nft(8), iptables-save(8).
 */
export async function installedNames({ run = runStep }: { run?: RunStep } = {}): Promise<string[]> {
  const questions = [
    { command: ['nft', 'list', 'tables'], pattern: TABLE },
    ...Object.values(SAVE).map((save) => ({ command: [save] as const, pattern: CHAIN })),
  ] as const;
  const names = await Promise.all(
    questions.map(async ({ command, pattern }) => {
      const { stdout } = await run({ why: 'see what is installed', command });
      return [...stdout.matchAll(pattern)].map(([, name]) => name!);
    }),
  );
  return [...new Set(names.flat())].sort();
}
