// Every command that the documentation and the headers of the examples print is run, in a network namespace; every
// nftables text is loaded; README's program runs as printed.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { root } from '../../scripts/native.ts';
import { blocks, headerCommands, pages, shellLines } from '../fixtures/markdown.ts';
import { curl, setUp } from '../fixtures/far-network.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { asUser } from '../fixtures/other-user.ts';
import { startProgram } from '../fixtures/program.ts';
import { unmeasured } from '../fixtures/unmeasured.ts';

/** The user that README's rules leave alone. */
const CLI = join(root, 'dist/lib/cli.js');
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};

/** A shell for one command; what it changes is gone with its network namespace. */
function shell(command: string): string {
  const run = spawnSync('unshare', ['-n', 'sh', '-ec', `ip link set lo up; ${command}`], {
    encoding: 'utf8',
  });
  return run.status === 0 ? '' : `${run.status}: ${run.stderr}${run.stdout}`;
}

/** Runs the command that stays, until it listens, and ends it as Ctrl-C does. */
async function runProxy(args: string[]): Promise<string> {
  const proxy = spawn(process.execPath, [CLI, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: unmeasured,
  });
  let said = '';
  let ended = false;
  proxy.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    if (!ended && /listening/i.test(said)) ended = proxy.kill('SIGINT');
  });
  const [code] = (await once(proxy, 'close')) as [number | null];
  return code === 0 && ended ? '' : `${code}: ${said}`;
}

async function runCommand(line: string): Promise<string> {
  const [command, ...args] = line
    .replace(/^npx original-dst/, '')
    .replaceAll("'", '')
    .trim()
    .split(/\s+/);
  if (command === 'proxy') return runProxy([command, ...args]);
  // The demo itself has tests of its own, what `run` may run is not here; the doctor exits with 1 where it has found something.
  const given =
    command === 'demo'
      ? [command, '--help']
      : command === 'run'
        ? [command, ...args.slice(0, args.indexOf('--')), '--', 'true']
        : [command!, ...args];
  const run = spawnSync(process.execPath, [CLI, ...given], { encoding: 'utf8', cwd: root, env: unmeasured });
  const fine = run.status === 0 || (command === 'doctor' && run.status === 1);
  return fine ? '' : `${run.status}: ${run.stderr}`;
}

const known = new Map<string, Promise<string>>();

/** What is wrong with a command, or ''. What only shows something is run once, wherever it stands. */
function attempt(line: string): Promise<string> {
  if (!/^npx original-dst (run|demo|doctor|rules print|proxy)/.test(line)) return attemptNow(line);
  if (!known.has(line)) known.set(line, attemptNow(line));
  return known.get(line)!;
}

async function attemptNow(line: string): Promise<string> {
  if (line.includes(' && ')) {
    for (const part of line.split(' && ')) {
      const wrong = await attempt(part);
      if (wrong !== '') return wrong;
    }
    return '';
  }
  if (/^npx original-dst( |$)/.test(line)) return runCommand(line);
  // Run by CI as they stand, or for minutes: here it is seen that they exist.
  const script = /^npm (?:run (?:-s )?)?([\w:-]+)/.exec(line)?.[1];
  if (script === 'install' || script === 'ci' || script === 'version') return '';
  if (script !== undefined) return script in scripts ? '' : 'no such script';
  if (line.startsWith('npx tap '))
    return existsSync(join(root, line.split(' ').at(-1)!.replace('/*.test.js', ''))) ? '' : 'no such test';
  if (line.startsWith('git ')) return '';
  const program = /^(?:sudo )?node ([\w/.-]+\.js)/.exec(line)?.[1];
  if (program !== undefined) {
    const places = ['', 'examples/'].map((folder) => join(root, 'dist', folder, program));
    return places.some((file) => existsSync(file)) ? '' : `no ${program}`;
  }
  if (line.startsWith('setpriv ')) return shell(line.replace(/node \S+$/, 'true'));
  if (/^(ip|nft) /.test(line)) return shell(line);
  return 'no way is known to try this';
}

const printed = [
  ...pages(root).flatMap((page) =>
    blocks(page)
      .filter(({ language }) => language === 'sh')
      .map((block) => ({ where: `${block.page}:${block.line}`, lines: shellLines(block) })),
  ),
  ...readdirSync(join(root, 'examples'))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => ({
      where: `examples/${name}`,
      lines: headerCommands(readFileSync(join(root, 'examples', name), 'utf8')),
    })),
];

const body = async (): Promise<void> => {
  for (const { where, lines } of printed) {
    await t.test(where, async (t) => {
      t.ok(lines.length > 0);
      for (const line of lines) t.equal(await attempt(line), '', line);
    });
  }

  await t.test('nftables texts', (t) => {
    const texts = pages(root)
      .flatMap(blocks)
      .filter(({ text }) => text.startsWith('table '));
    t.ok(texts.length >= 4);
    for (const { page, line, text } of texts) {
      const check = spawnSync('nft', ['-c', '-f', '-'], { input: text, encoding: 'utf8' });
      t.equal(check.stderr, '', `${page}:${line}`);
    }
    t.end();
  });

  await t.test('README’s proxy, run as printed', async (t) => {
    const readme = pages(root).find(({ path }) => path === 'README.md')!;
    const source = blocks(readme).find(({ language }) => language === 'ts')!.text;
    const rules = readme.text.match(/^npx original-dst rules apply .*$/m)![0];
    mkdirSync(join(root, '.cache'), { recursive: true });
    const file = join(root, '.cache/readme.mjs');
    writeFileSync(file, source);

    const web = await setUp();
    t.teardown(() => web.kill());
    t.equal(await runCommand(rules), '');
    const proxy = await startProgram(t, 'env', [...asUser(1337), process.execPath, file], /listening/);
    t.match(curl('http://198.51.100.7/'), /10\.1\.0\.1$/);
    t.ok(await proxy.printed(/→ 198\.51\.100\.7 80 redirect/));
    t.equal(await runCommand('npx original-dst rules remove --yes'), '');
  });
};
await inNamespace(t, import.meta.url, body, { root: true });
