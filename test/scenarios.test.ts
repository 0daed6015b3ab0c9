// The program that virtual machines and other runtimes run, here: on this kernel, with this Node.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { inNamespace } from './fixtures/netns.ts';
import type { ScenarioOutcome } from './fixtures/programs/scenarios.ts';

const program = fileURLToPath(new URL('fixtures/programs/scenarios.js', import.meta.url));

await inNamespace(t, import.meta.url, async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [program]);
  const outcomes = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as ScenarioOutcome);
  t.ok(outcomes.length > 10);
  for (const { name, status, detail } of outcomes)
    t.same({ status, detail }, { status: 'passed', detail: '' }, name);
});
