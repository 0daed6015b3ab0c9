// Where no namespace can be made: why, and what to do.
import { execFile } from 'node:child_process';
import { constants } from 'node:os';
import { promisify } from 'node:util';
import t from 'tap';
import { cannotCreate, namespaceRemedy } from '../../lib/namespace/create.ts';
import { withoutRights } from '../fixtures/rootless.ts';

const { EACCES, EINVAL, ENOSPC, EPERM } = constants.errno;
const library = new URL('../../lib/index.js', import.meta.url).href;

await t.test('the remedy fits what the machine says', (t) => {
  const files: Record<string, string> = {};
  const remedy = (errno: number, inContainer = false) =>
    namespaceRemedy(
      errno,
      (file) => files[file] ?? '',
      () => inContainer,
    );
  t.match(remedy(-ENOSPC), /sysctl -w user\.max_user_namespaces/);
  t.match(remedy(-87), /nested/);
  t.match(remedy(-EPERM, true), /--security-opt/);
  t.match(remedy(-EACCES), /run as root/);
  t.equal(remedy(-EINVAL), undefined);
  for (const [file, value, command] of [
    ['user/max_net_namespaces', '0', /sysctl -w user\.max_net_namespaces/],
    ['user/max_user_namespaces', '0', /sysctl -w user\.max_user_namespaces/],
    ['kernel/apparmor_restrict_unprivileged_userns', '1', /apparmor_restrict_unprivileged_userns=0/],
    ['kernel/unprivileged_userns_clone', '0', /unprivileged_userns_clone=1/],
  ] as const) {
    files[`/proc/sys/${file}`] = `${value}\n`;
    t.match(remedy(-EPERM), command);
  }
  t.match(cannotCreate(-EINVAL, 3), { hint: undefined, cause: { code: 'EINVAL', syscall: 'ioctl' } });
  t.type(namespaceRemedy(-EPERM), 'string', 'and is asked of this machine');
  t.end();
});

await withoutRights(t, import.meta.url, async () => {
  await t.test('the error names the call, the cause and the remedy', async (t) => {
    const script = `
      const { Namespace } = await import('${library}');
      Namespace.create().catch(({ code, message, cause, hint }) =>
        console.log(JSON.stringify({ code, message, cause: cause.code, syscall: cause.syscall, hint })));`;
    const { stdout } = await promisify(execFile)('unshare', [
      '-Ur',
      'sh',
      '-c',
      'echo 0 > /proc/sys/user/max_net_namespaces; exec "$0" "$@"',
      process.execPath,
      '--input-type=module',
      '-e',
      script,
    ]);
    t.match(JSON.parse(stdout), {
      code: 'ERR_NAMESPACE_UNAVAILABLE',
      cause: 'ENOSPC',
      syscall: 'clone',
      message: /^No network namespace can be made here: clone ENOSPC/,
      hint: /sudo sysctl -w user\.max_net_namespaces=10000/,
    });
  });

  await t.test(
    'the namespace of whoever is outside can be held, and is no other one to be entered',
    async (t) => {
      const program = new URL('../fixtures/programs/namespace-outside.js', import.meta.url).pathname;
      await t.spawn('unshare', ['-Ur', process.execPath, ...process.execArgv, program]);
    },
  );

  await t.test('without nsenter there is nothing to enter by', async (t) => {
    const script = `
      const { Namespace } = await import('${library}');
      const { mkdtempSync } = await import('node:fs');
      const { findProgram } = await import('${library.replace('index.js', 'programs.js')}');
      const namespace = await Namespace.create();
      try { namespace.spawn('true'); console.log('ran'); }
      catch ({ code, hint }) { console.log(JSON.stringify({ code, hint, found: findProgram('nsenter') })); }`;
    // An empty file over it, in a mount namespace: nothing that can be run.
    const { stdout } = await promisify(execFile)('unshare', [
      '-Urm',
      'sh',
      '-c',
      'mount --bind /dev/null "$(command -v nsenter)"; [ /bin/nsenter -ef /dev/null ] || mount --bind /dev/null /bin/nsenter; exec "$0" "$@"',
      process.execPath,
      '--input-type=module',
      '-e',
      script,
    ]);
    t.match(JSON.parse(stdout), { code: 'ERR_NAMESPACE_TOOL_MISSING', hint: /util-linux/ });
  });
});
