// Where programs are looked for, and where not.
import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { findProgram, programPath, searchPath } from '../lib/programs.ts';
import { runStep } from '../lib/rules/install/run.ts';

/** Runs the body with that PATH, in that working directory. */
async function within<T>(path: string | undefined, directory: string, body: () => T): Promise<Awaited<T>> {
  const before = process.cwd();
  const { PATH } = process.env;
  process.chdir(directory);
  if (path === undefined) delete process.env['PATH'];
  else process.env['PATH'] = path;
  try {
    return await body();
  } finally {
    process.chdir(before);
    process.env['PATH'] = PATH;
  }
}

t.test('nothing in the working directory', async (t) => {
  const directory = t.testdir({});
  for (const name of ['true', 'sub/true', 'undefined/true']) {
    mkdirSync(join(directory, name, '..'), { recursive: true });
    writeFileSync(join(directory, name), `#!/bin/sh\ntouch ${directory}/ran\n`);
    chmodSync(join(directory, name), 0o755);
  }
  for (const path of [undefined, '', ':', '.', 'sub', './sub:', 'undefined', '/nonexistent::']) {
    await within(path, directory, async () => {
      t.match(findProgram('true'), /^\/(usr\/)?bin\/true$/, `PATH=${path}`);
      t.ok(
        searchPath()
          .split(':')
          .every((entry) => entry.startsWith('/')),
        'children neither',
      );
      t.match(await runStep({ why: 'x', command: ['true'] }), { status: 0 });
      t.match(await runStep({ why: 'x', command: ['sh', '-c', 'true; env true; find . -exec true {} +'] }), {
        status: 0,
      });
    });
  }
  t.notOk(existsSync(join(directory, 'ran')));
});

t.test('what PATH names comes first, if it is a program', async (t) => {
  const directory = t.testdir({ sh: '', cat: '#!/bin/sh\n', ls: {} });
  chmodSync(join(directory, 'cat'), 0o755);
  symlinkSync('cat', join(directory, 'env'));
  await within(directory, '/', () => {
    t.equal(findProgram('cat'), join(directory, 'cat'));
    t.equal(findProgram('env'), join(directory, 'env'));
    t.match(findProgram('sh'), /^\/(usr\/)?bin\/sh$/, 'not executable');
    t.match(findProgram('ls'), /^\/(usr\/)?bin\/ls$/, 'a directory');
    t.equal(findProgram('no-such-program'), undefined);
    t.equal(programPath('no-such-program'), '/usr/bin/no-such-program');
    t.equal(programPath('/bin/sh'), '/bin/sh');
  });
});
