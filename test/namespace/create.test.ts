// Where no namespace can be made: why, and what to do.
import { execFile } from 'node:child_process';
import { constants } from 'node:os';
import { promisify } from 'node:util';
import t from 'tap';
import { cannotCreate, namespaceObstacle } from '../../lib/namespace/create.ts';
import { withoutRights } from '../fixtures/rootless.ts';

const { EACCES, EINVAL, ENOSPC, EPERM } = constants.errno;
const library = new URL('../../lib/index.js', import.meta.url).href;

await t.test('the remedy fits what the machine says', (t) => {
  const files: Record<string, string> = {};
  const obstacle = (errno: number) => namespaceObstacle(errno, (file) => files[file]);
  const many = { remedy: /^sysctl -w user\.max_user_namespaces=10000/, by: 'root' };
  t.match(obstacle(-ENOSPC), many);
  t.match(obstacle(-87), { ...many, why: /nested/ });
  t.match(obstacle(-EACCES), { why: /chroot.*run it as root/, remedy: undefined });
  for (const [file, text] of [
    ['/.dockerenv', ''],
    ['/proc/self/status', 'Seccomp:\t2\n'],
  ] as const) {
    files[file] = text;
    t.match(obstacle(-EPERM), { why: /container/, remedy: /--security-opt seccomp=unconfined/ });
    delete files[file];
  }
  t.equal(obstacle(-EINVAL), undefined);
  for (const [name, value, allows] of [
    ['user.max_net_namespaces', '0', 10000],
    ['user.max_user_namespaces', '0', 10000],
    ['kernel.apparmor_restrict_unprivileged_userns', '1', 0],
    ['kernel.unprivileged_userns_clone', '0', 1],
  ] as const) {
    const file = `/proc/sys/${name.replaceAll('.', '/')}`;
    files[file] = `${value}\n`;
    t.same(obstacle(-EPERM), {
      why: `${file} is ${value}`,
      remedy: `sysctl -w ${name}=${allows}`,
      by: 'root',
    });
  }
  const read = (file: string) => files[file];
  t.match(cannotCreate(-EPERM, 0, read), { hint: /_clone is 0: sudo sysctl -w kernel\./ });
  t.match(cannotCreate(-EINVAL, 3), { hint: undefined, cause: { code: 'EINVAL', syscall: 'ioctl' } });
  t.match(
    cannotCreate(-EPERM, 0, () => undefined),
    { hint: /run it as root$/ },
  );
  t.end();
});

/** Root of a user namespace, who needs no other one, without that right. */
const ORDINARY = 'setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin';

/** One user namespace in the other, until there can be no more. Its own text is its name. */
const AS_DEEP_AS_CAN_BE = `
  unshare -U true 2>/dev/null && exec unshare -Ur sh -c "$0" "$0" "$@"
  exec ${ORDINARY} "$@"`;

/** seccomp(2): clone(2) with CLONE_NEWUSER or CLONE_NEWNET is EPERM, as Docker's profile has it. */
const WITHOUT_CLONE = `
import ctypes, os, platform, struct, sys
number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
ins = lambda code, jt, jf, k: struct.pack("HBBI", code, jt, jf, k)
program = (ins(0x20, 0, 0, 0) + ins(0x15, 0, 3, number) + ins(0x20, 0, 0, 16)
  + ins(0x45, 0, 1, 0x50000000) + ins(0x06, 0, 0, 0x00050001) + ins(0x06, 0, 0, 0x7fff0000))
class Filter(ctypes.Structure): _fields_ = [("n", ctypes.c_ushort), ("p", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(6, program)), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
`;

await withoutRights(t, import.meta.url, async () => {
  await t.test(
    'the error names the call, the cause and the remedy, and the doctor finds the same',
    async (t) => {
      const script = `
      const { Namespace } = await import('${library}');
      const { commandCapture } = await import('${library.replace('index.js', 'doctor/checks/command-capture.js')}');
      const { thisHost } = await import('${library.replace('index.js', 'doctor/host.js')}');
      const [found] = await commandCapture({ host: thisHost });
      const { code, cause, hint } = await Namespace.create().catch((error) => error);
      console.log(JSON.stringify({ code, cause: cause.code, syscall: cause.syscall, hint, ...found }));`;
      // This machine may be a container already.
      const forbidden = /(?:run it as root|without: (docker run .*))$/;
      const node = [process.execPath, '--input-type=module', '-e', script];
      const cases: [prefix: string[], cause: string, hint: RegExp][] = [
        ...['user', 'net'].map((kind): [string[], string, RegExp] => [
          [
            'unshare',
            '-Ur',
            'sh',
            '-c',
            `echo 0 > /proc/sys/user/max_${kind}_namespaces; exec ${ORDINARY} "$@"`,
            'sh',
          ],
          'ENOSPC',
          new RegExp(`max_${kind}_namespaces is 0: sudo (sysctl -w user\\.max_${kind}_namespaces=10000)$`),
        ]),
        [['sh', '-c', AS_DEEP_AS_CAN_BE, AS_DEEP_AS_CAN_BE], 'ENOSPC', /nested.*sudo (sysctl .*)$/],
        [['python3', '-c', WITHOUT_CLONE], 'EPERM', forbidden],
        [
          ['unshare', '-Urm', 'sh', '-ec', `mount --rbind / /mnt; exec chroot /mnt ${ORDINARY} "$@"`, 'sh'],
          'EPERM',
          forbidden,
        ],
      ];
      await Promise.all(
        cases.map(async ([prefix, cause, hint]) => {
          const [program, ...args] = [...prefix, ...node];
          const { stdout } = await promisify(execFile)(program!, args);
          const said = JSON.parse(stdout) as Record<string, string>;
          t.match(said, {
            code: 'ERR_NAMESPACE_UNAVAILABLE',
            cause,
            syscall: 'clone',
            hint,
            level: 'warning',
          });
          const [, remedy] = hint.exec(said['hint']!)!;
          t.equal(said['remedy'], remedy);
          t.ok(said['detail']!.includes(said['hint']!.split(/: (?:sudo|docker) /)[0]!), said['detail']!);
        }),
      );
    },
  );

  await t.test(
    'the namespace of whoever is outside can be held, and is no other one to be entered',
    async (t) => {
      const program = new URL('../fixtures/programs/namespace-outside.js', import.meta.url).pathname;
      await t.spawn('unshare', ['-Ur', process.execPath, program]);
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
