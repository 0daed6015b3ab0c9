// npm run bench:start: CPU time that a start takes beyond that of Node itself, of the package as it is packed and of the
// modules as the compiler writes them. Interleaved; the medians are what counts. Prints a Markdown table.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { median } from './median.ts';
import { markdown } from './proxy/report.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 25);
// From dist/bench.
const root = fileURLToPath(new URL('../..', import.meta.url));

/** Where what is in lib/ of the sources is found, by which way of writing it down. */
type Place = (module: string) => string;

const STARTS: Record<string, (place: Place) => string[]> = {
  "import 'original-dst'": (place) => importing(place('index.js')),
  "import 'original-dst/rules'": (place) => importing(place('rules/index.js')),
  "import 'original-dst/doctor'": (place) => importing(place('doctor/index.js')),
  'original-dst --help': (place) => [place('cli.js'), '--help'],
  'original-dst rules print --preset sidecar': (place) => [
    place('cli.js'),
    'rules',
    'print',
    '--preset',
    'sidecar',
  ],
};

function importing(file: string): string[] {
  return ['--input-type=module', '--eval', `import ${JSON.stringify(pathToFileURL(file).href)}`];
}

/** Installs the package as npm would pack it; returns where. */
function pack(directory: string): string {
  // It takes dist/lib away for a while, which nothing here needs meanwhile.
  execFileSync('npm', ['pack', '--silent', '--pack-destination', directory], { cwd: root, stdio: 'ignore' });
  const file = readdirSync(directory).find((name) => name.endsWith('.tgz'))!;
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
  execFileSync('tar', ['-xzf', join(directory, file), '-C', directory]);
  return join(directory, 'package');
}

const directory = mkdtempSync(join(tmpdir(), 'bench-start-'));
const teller = join(directory, 'teller.cjs');
writeFileSync(
  teller,
  `process.on('exit', () => {
  const { user, system } = process.cpuUsage();
  require('node:fs').writeSync(3, String(user + system));
});
`,
);

/** Milliseconds of CPU, of all threads, until it ends. */
function cost(args: string[]): number {
  const child = spawnSync(process.execPath, ['--require', teller, ...args], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
    encoding: 'utf8',
  });
  if (child.status !== 0) throw new Error(`${args.join(' ')}: status ${child.status}`);
  return Number(child.output[3]) / 1000;
}

try {
  const packed = join(pack(directory), 'dist/lib');
  const places: Place[] = [(module) => join(root, 'dist/lib', module), (module) => join(packed, module)];
  const empty = join(directory, 'empty.mjs');
  writeFileSync(empty, '');
  const commands = [
    ['--eval', '0'],
    importing(empty),
    ...Object.values(STARTS).flatMap((start) => places.map(start)),
  ];
  const taken: number[][] = commands.map(() => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [at, command] of commands.entries()) taken[at]!.push(cost(command));
  }
  const [node, ...others] = taken.map(median) as [number, ...number[]];
  const [ofEmpty, ...beyond] = others.map((value) => `${(value - node).toFixed(0)} ms`);
  const names = Object.keys(STARTS);
  console.log(`Node ${process.version} itself: ${node.toFixed(0)} ms. Medians of ${ROUNDS}.\n`);
  console.log(
    markdown([
      ['CPU time beyond that', 'one file each', 'as packed'],
      ['an empty module', ofEmpty!, ofEmpty!],
      ...names.map((name, at) => [`\`${name}\``, beyond[2 * at]!, beyond[2 * at + 1]!]),
    ]),
  );
} finally {
  rmSync(directory, { recursive: true });
}
