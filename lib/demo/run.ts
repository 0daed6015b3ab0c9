// The demo from outside: its tools, its namespaces, its exit code.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { binding } from '../binding.ts';
import { findProgram, programPath, searchPath } from '../programs.ts';

/** The programs that the demo runs, and the Debian packages that have them. */
const PACKAGES: Record<string, string> = {
  nft: 'nftables',
  ip: 'iproute2',
  curl: 'curl',
  openssl: 'openssl',
  unshare: 'util-linux',
  nsenter: 'util-linux',
};

/** The options with which unshare(1) makes the namespaces here, or what it says when it cannot. */
function unshareOptions(env: NodeJS.ProcessEnv): { options: string[] } | { refusal: string } {
  let refusal = '';
  // A user namespace makes anybody root in there. Where they are switched off, root can do without.
  for (const attempt of ['-Urnm', '-nm']) {
    const { status, stderr } = spawnSync(programPath('unshare'), [attempt, 'true'], {
      env,
      encoding: 'utf8',
    });
    if (status === 0) return { options: [attempt, '--kill-child', '--propagation', 'private'] };
    refusal = stderr.trim();
  }
  return { refusal };
}

/**
 * Shows the package at work on this machine: a private network of three hosts, nftables rules, a transparent proxy,
 * real servers, real clients, and a table of what the proxy found. Prints to standard output, leaves nothing behind.
 *
 * @returns the exit status: 0 when every connection's true destination was found, 1 otherwise
 */
export async function runDemo(): Promise<number> {
  const fail = (message: string): number => {
    console.error(`demo: ${message}`);
    return 1;
  };
  try {
    binding();
  } catch (error) {
    return fail((error as Error).message);
  }
  const env = { ...process.env, PATH: searchPath() };
  const missing = Object.keys(PACKAGES).filter((tool) => findProgram(tool) === undefined);
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((tool) => PACKAGES[tool]))].join(' ');
    return fail(
      `missing: ${missing.join(', ')}. Install them first, on Debian or Ubuntu: sudo apt-get install ${packages}`,
    );
  }
  const namespaces = unshareOptions(env);
  if ('refusal' in namespaces) {
    return fail(
      `cannot make a network namespace: ${namespaces.refusal}. Allow user namespaces ` +
        '(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or run this as root',
    );
  }
  const inside = [
    process.execPath,
    ...process.execArgv,
    fileURLToPath(new URL('inside.js', import.meta.url)),
  ];
  const child = spawn(programPath('unshare'), [...namespaces.options, ...inside], {
    env,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  const [status] = (await once(child, 'exit')) as [number | null];
  return status ?? 1;
}
