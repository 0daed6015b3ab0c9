// What a program pays for when it imports the package: none of what is loaded on demand.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { root } from '../../scripts/native.ts';

t.test('what is loaded on demand is loaded by no import', async (t) => {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, string | { default: string }>;
  };
  const entries = Object.values(exports).flatMap((target) =>
    typeof target === 'string' ? [] : [join(root, target.default)],
  );
  t.ok(entries.length > 1);
  const onDemand = [
    ...readFileSync(join(root, 'lib/node/on-demand.ts'), 'utf8').matchAll(/require\('(?:node:)?(.+?)'\)/g),
  ].map(([, name]) => name!);
  t.ok(onDemand.includes('child_process'));
  for (const entry of entries) {
    const script = `
      await import(${JSON.stringify(entry)});
      const { createRequire } = await import('node:module');
      const loaded = process.moduleLoadList.map((name) => name.replace('NativeModule ', ''));
      const files = Object.keys(createRequire(${JSON.stringify(entry)}).cache);
      console.log(JSON.stringify([...loaded, ...files]));
    `;
    // What tap loads into each Node process is not the package's.
    const plain = ['-u', 'NODE_OPTIONS', process.execPath, '--input-type=module', '-e', script];
    const { stdout, stderr } = spawnSync('env', plain, { encoding: 'utf8' });
    t.equal(stderr, '');
    const loaded = JSON.parse(stdout) as string[];
    t.same(
      loaded.filter((name) => onDemand.some((one) => name === one || name.includes(`/node_modules/${one}/`))),
      [],
      entry,
    );
  }
});
