// Remedies that take real root, or the command itself: each is run as it is printed, and heals what it is for.
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { root } from '../../scripts/native.ts';
import { tools } from '../../lib/doctor/checks/tools.ts';
import { Context } from '../../lib/doctor/context.ts';
import { diagnose, type Finding } from '../../lib/doctor/index.ts';
import { fakeHost } from '../fixtures/fake-host.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';

const CLI = fileURLToPath(new URL('../../lib/cli.js', import.meta.url));
const PORT = 15001;

async function said(id: string): Promise<Finding[]> {
  return (await diagnose({ port: PORT })).filter((finding) => finding.id === id);
}

await inNamespace(
  t,
  import.meta.url,
  async () => {
    t.test('rules', async (t) => {
      const [none] = await said('rules');
      t.match(none, { level: 'problem', remedy: /^original-dst rules apply/ });
      writeFileSync('/run/original-dst', `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`);
      chmodSync('/run/original-dst', 0o755);
      sh(`PATH="/run:$PATH"; ${none!.remedy} --yes`);
      t.match(await said('rules'), [{ level: 'ok' }]);
    });

    t.test('capabilities', async (t) => {
      // setcap(8) on a copy: the remedy names the program that needs the rights.
      copyFileSync(process.execPath, '/run/node');
      // And the package where anybody may read it: it may lie below a home that only its owner may enter.
      sh(`chmod 755 /run && mkdir /run/package && mount --bind ${root} /run/package`);
      // Not as a part of this test: that user may not write where tap keeps the coverage.
      const diagnoseAs = (): Finding[] =>
        JSON.parse(
          execFileSync(
            'setpriv',
            [
              '--reuid=65534',
              '--regid=65534',
              '--clear-groups',
              'env',
              '-i',
              '/run/node',
              '/run/package/dist/test/fixtures/programs/diagnose.js',
            ],
            { encoding: 'utf8' },
          ),
        ) as Finding[];
      const of = (findings: Finding[]) => findings.find(({ id }) => id === 'capabilities');
      const before = of(diagnoseAs());
      t.match(before, { level: 'warning', remedy: 'setcap cap_net_admin+ep /run/node' });
      sh(before!.remedy!);
      t.match(of(diagnoseAs()), { level: 'ok' });
    });
  },
  { root: true },
);

t.test('packages hold the programs that they are named for', async (t) => {
  const [found] = await tools(new Context(fakeHost(), {}));
  const [, packages = ''] = /^apt-get install (.*)$/.exec(found!.remedy!) ?? [];
  const names = /^not installed: (.*)$/.exec(found!.title)![1]!.split(', ');
  const held = packages.split(' ').flatMap((name) => sh(`dpkg -L ${name}`).split('\n'));
  for (const name of names)
    t.ok(
      held.some((path) => path.endsWith(`/${name}`)),
      name,
    );
});
