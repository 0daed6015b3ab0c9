// Every benchmark runs in namespaces of its own: its addresses, rules and traffic are nobody else's, and it needs no
// root unless it is about BPF.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const INSIDE = 'ORIGINAL_DST_BENCH_INSIDE';

export interface NamespaceOptions {
  /** Commands that have to exist, as scripts/ensure-tools.sh takes them. */
  tools: string[];
  /** How many descriptors a process may have open: so many, or as many as the machine allows. */
  descriptors?: number;
  /** As root: BPF programs are not for the root of a user namespace. */
  root?: boolean;
}

/** Runs the program again in namespaces of its own and ends as that ends; once inside, does nothing. */
export function enterNamespace({ tools, descriptors, root = false }: NamespaceOptions): void {
  if (process.env[INSIDE] === '1') return;
  if (root && process.getuid!() !== 0) {
    console.error('only root can attach BPF programs: run it with sudo');
    process.exit(1);
  }
  // From dist/bench; the script stays where it is.
  const ensureTools = fileURLToPath(new URL('../../scripts/ensure-tools.sh', import.meta.url));
  if (spawnSync(ensureTools, tools, { stdio: 'inherit' }).status !== 0) process.exit(1);

  const limit =
    descriptors === undefined ? '' : `ulimit -n ${descriptors} 2>/dev/null || ulimit -n "$(ulimit -Hn)"; `;
  const script = `${limit}exec unshare ${root ? '-nm' : '-Urnm'} --kill-child --propagation private "$@"`;
  const { status } = spawnSync('sh', ['-c', script, 'sh', process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  });
  process.exit(status ?? 1);
}
