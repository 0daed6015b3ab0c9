// However a process ends, it ends that way: no crash in a destructor, nothing that keeps it alive.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { stages } from './fixtures/busy.ts';
import { unmeasured } from './fixtures/unmeasured.ts';

// Without tap's --import hooks: they catch signals and exits themselves.
const program = fileURLToPath(new URL('fixtures/programs/busy-process.js', import.meta.url));

const ends: [end: string, code: number | null, signal: NodeJS.Signals | null][] = [
  ['by itself', 0, null],
  ['process.exit', 3, null],
  ['process.exit while exiting', 4, null],
  ['an exception', 1, null],
  ['SIGTERM', null, 'SIGTERM'],
  ['SIGKILL', null, 'SIGKILL'],
  ['SIGINT, handled', 5, null],
];

async function run(stage: string, end: string) {
  // Under AddressSanitizer the leaks of a process that runs to its end are leaks of the addon.
  const leaks = end === 'by itself' ? { ASAN_OPTIONS: 'detect_leaks=1' } : {};
  const child = spawn(process.execPath, [program, stage, end], {
    env: { ...unmeasured, ...leaks },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, stderr };
}

for (const stage of stages) {
  t.test(stage, async (t) => {
    await Promise.all(
      ends.map(async ([end, code, signal]) => {
        const { stderr, ...ended } = await run(stage, end);
        t.same(ended, { code, signal }, end);
        t.match(stderr, end === 'an exception' ? /Error: on purpose/ : /^$/, `${end}: stderr`);
      }),
    );
  });
}
