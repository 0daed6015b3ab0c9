// `original-dst rules` in a network namespace: what it says it would do, does, and undoes.
import t from 'tap';
import { apply, planRules } from '../../lib/rules/index.ts';
import { cliBatch } from '../fixtures/cli.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { traces } from '../fixtures/traces.ts';

await inNamespace(t, import.meta.url, async () => {
  t.test('families that are asked for, by option and in a file', async (t) => {
    const file = `${t.testdir({ 'four.json': '{"families":["IPv4"],"inbound":{"mode":"redirect","port":15006}}' })}/four.json`;
    const [option, config] = cliBatch([
      'rules apply --port 15001 --exempt-uid 5 --family 4',
      `rules apply --config ${file}`,
    ]);
    for (const run of [option!, config!]) {
      t.equal(run.status, 0, run.stderr);
      t.match(run.stdout, /table ip /);
      t.notMatch(run.stdout, /table ip6 /);
    }
  });

  t.test('rules apply, verify, remove', async (t) => {
    const before = traces();
    const flow = '--port 15001 --mode tproxy --exempt-mark 7';
    const [dry, missing] = cliBatch([`rules apply ${flow}`, `rules verify ${flow}`]);
    t.equal(dry!.status, 0);
    t.match(dry!.stdout, /^nft -f - <<'RULES'$/m);
    t.match(dry!.stderr, /A dry run: nothing was changed/);
    t.equal(missing!.status, 1);
    t.match(missing!.stdout, /^✖ .*\n {4}expected: .*\n {4}found: {4}nothing\n$/);
    t.equal(traces(), before);

    const [applied, installed, again, other, removal] = cliBatch([
      `rules apply ${flow} --yes`,
      `rules verify ${flow}`,
      `rules apply ${flow} --backend nftables --yes`,
      `rules verify ${flow} --ports 80`,
      'rules remove',
    ]);
    t.same(applied, { status: 0, stdout: '', stderr: '' });
    t.same(installed, { status: 0, stdout: '✔ installed as planned\n', stderr: '' });
    t.same(again, applied, 'it may be repeated');
    t.equal(other!.status, 1);
    t.equal(removal!.status, 0);
    t.match(removal!.stderr, /A dry run/);
    t.not(traces(), before);
    sh(removal!.stdout);
    t.equal(traces(), before, 'the script of a dry run does the same');

    sh(dry!.stdout);
    const [verified, removed, none, misnamed] = cliBatch([
      `rules verify ${flow}`,
      'rules remove --yes',
      'rules remove default',
      'rules remove Default',
    ]);
    t.same(verified, installed, 'this one too');
    t.same(removed, applied);
    t.same(none, { status: 0, stdout: '', stderr: '# Nothing is installed under the name default.\n' });
    t.match(misnamed!.stderr, /^original-dst: 'Default' cannot name rules/);
    t.equal(traces(), before);

    const [, , elsewhere] = cliBatch([
      'rules apply --port 15001 --exempt-mark 7 --name proxy --yes',
      'rules apply --port 15002 --exempt-mark 8 --name a-b --backend iptables --yes',
      'rules remove --yes',
      'rules remove proxy --yes',
      'rules remove a-b --yes',
    ]);
    t.equal(
      elsewhere!.stderr,
      '# Nothing is installed under the name default. There are rules under a-b, proxy.\n',
    );
    t.equal(traces(), before);

    // Rules of the process that runs this test.
    await apply(planRules({ exempt: { marks: [7] }, outbound: { mode: 'redirect', port: 15001 } }), {
      hold: true,
    });
    const [held, heldRemoval, taken, takenRemoval] = cliBatch([
      `rules apply ${flow} --yes`,
      'rules remove',
      `rules apply ${flow} --yes --take-over`,
      'rules remove --yes --take-over',
    ]);
    for (const { status, stderr } of [held!, heldRemoval!]) {
      t.equal(status, 1);
      t.match(stderr, `process ${process.pid} holds the rules called default`);
      t.match(stderr, '(end it, or give --take-over)');
    }
    t.same(taken, { status: 0, stdout: '', stderr: '' });
    t.same(takenRemoval, taken);
    t.equal(traces(), before);
  });
});
