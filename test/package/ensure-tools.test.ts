// scripts/ensure-tools.sh on machines that lack this or that.
import { spawnSync } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';

/** Runs the script where only the commands given exist, as a user with that id. */
function ensure(t: Test, uid: number, programs: Record<string, string>, tools: string[]) {
  const bin = t.testdir({});
  const log = join(bin, 'log');
  const scripts = { id: `echo ${uid}`, ...programs };
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script.replaceAll('LOG', log).replaceAll('BIN', bin)}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  writeFileSync(log, '');
  const { status, stdout, stderr } = spawnSync('/bin/sh', ['scripts/ensure-tools.sh', ...tools], {
    env: { PATH: bin },
    encoding: 'utf8',
  });
  return { status, stdout, stderr, log: readFileSync(log, 'utf8') };
}

/** An apt-get that knows no packages before its update. */
const APT_GET = `echo "$@" >> LOG
case $1 in
  update) : > BIN/updated ;;
  install) [ -e BIN/updated ] && for name in no-such-tool other-tool; do
      echo 'exit 0' > BIN/$name
      /bin/chmod +x BIN/$name
    done ;;
esac`;

t.test('says nothing when all is there', (t) => {
  t.same(ensure(t, 1000, { 'no-such-tool': 'exit 1' }, ['no-such-tool', 'id']), {
    status: 0,
    stdout: '',
    stderr: '',
    log: '',
  });
  t.end();
});

t.test('says in one line what to install where it cannot', (t) => {
  const tools = ['no-such-tool', 'id', 'no-such-other'];
  const expected = {
    status: 1,
    stdout: '',
    stderr:
      'missing: no-such-tool no-such-other. Install them first, on Debian or Ubuntu: ' +
      'sudo apt-get install no-such-tool no-such-other\n',
    log: '',
  };
  t.same(ensure(t, 1000, { 'apt-get': APT_GET }, tools), expected, 'not root');
  t.same(ensure(t, 0, {}, tools), expected, 'root without apt-get');
  t.end();
});

t.test('installs what is missing, with one update at most', (t) => {
  const { status, stderr, log } = ensure(t, 0, { 'apt-get': APT_GET }, ['no-such-tool', 'id', 'other-tool']);
  t.equal(stderr, 'installing no-such-tool other-tool (for no-such-tool other-tool)\n');
  t.equal(
    log,
    `install -qq -y --no-install-recommends no-such-tool other-tool
update -qq
install -qq -y --no-install-recommends no-such-tool other-tool
`,
  );
  t.equal(status, 0);
  t.end();
});

t.test('an apt-get that fails leaves the line that says what is missing', (t) => {
  const { status, stderr, log } = ensure(t, 0, { 'apt-get': 'echo "$1" >> LOG; exit 100' }, ['no-such-tool']);
  t.match(stderr, /\nmissing: no-such-tool\. Install them first/);
  t.equal(log, 'install\nupdate\n');
  t.equal(status, 1);
  t.end();
});
