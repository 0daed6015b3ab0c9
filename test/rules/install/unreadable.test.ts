// A back-end that fails, or that shows less than there is, or more: never “nothing there”.
import t from 'tap';
import { apply, planRules, remove, removeCommands, verify, type RunStep } from '../../../lib/rules/index.ts';
import { runStep } from '../../../lib/rules/install/run.ts';
import { inNamespace, nft, sh } from '../../fixtures/netns.ts';
import { everything, failure, redirect } from '../../fixtures/rule-foreign.ts';
import { shell } from '../../fixtures/rule-shell.ts';
import { changes, snapshot } from '../../fixtures/rule-snapshot.ts';

await inNamespace(t, import.meta.url, async () => {
  const run = shell(t);
  /** As `run`, but some commands answer otherwise. */
  const but =
    (command: RegExp, status: number | null, stderr = '', stdout = ''): RunStep =>
    async (step) =>
      command.test(step.command.join(' ')) ? { status, stdout, stderr } : run(step);

  t.test('a tool that fails', async (t) => {
    await apply(everything, { run });
    const before = snapshot();
    const busy = 'netlink: Error: cache initialization failed: Resource busy';
    for (const broken of [
      but(/^nft/, 1, busy),
      but(/^nft/, -1),
      but(/^nft .* tables/, 0, '', 'table ip x'),
      but(/^nft .* tables/, 0, '', '{"nftables": {}}'),
      but(/^nft .* tables/, 0, '', '{"nftables": [null]}'),
      but(/^iptables-save/, 0, '', '*nat\n:OUTPUT ACCEPT [0:0]\nodd\nCOMMIT\n'),
      but(/^iptables-save/, 0, '', '*nat\n:OUTPUT ACCEPT [0:0]\n'),
      but(/^ip -4 -json -N rule/, 0, '', 'not JSON'),
      but(/^ip -4 .* route/, 2, 'Operation failed'),
      but(/^cat .*ip_forward/, 1, 'Input/output error'),
      but(/^cat .*ip_forward/, 0, '', 'many'),
    ]) {
      const error = await failure(remove('all', { run: broken }));
      t.match(error.code, /^ERR_RULES_(COMMAND|UNREADABLE)$/, error.message);
      t.equal((await failure(removeCommands('all', { run: broken }))).code, error.code);
    }
    t.equal(changes(before), '', 'and nothing was touched');
    t.equal(await remove('all', { run }), true);
  });

  t.test('an altered installation', async (t) => {
    const before = snapshot();
    const table = 'ip original-dst-all';
    const failing: RunStep = async (step) =>
      step.why.startsWith('install') ? { status: 1, stdout: '', stderr: 'made to fail' } : run(step);
    for (const backend of ['nftables', 'iptables'] as const) {
      await apply(redirect, { run, backend });
      sh(
        backend === 'nftables'
          ? `nft add rule ${table} nat-out accept comment '"a\n}\ninclude b"'`
          : `iptables -t nat -A odst-all-out -m comment --comment 'a\nCOMMIT' -j ACCEPT`,
      );
      t.match(await failure(apply(everything, { run: failing, backend })), { message: /made to fail/ });
      t.equal(changes(before), '', 'is not given back to the tools');
    }
    for (const rule of ['accept', 'return', 'counter return comment "undo made ip nat"']) {
      nft(`table ${table} {\nchain record {\n${rule}\n}\n}`);
      t.match(await failure(remove('all', { run })), { code: 'ERR_RULES_UNREADABLE' }, rule);
      sh(`nft delete table ${table}`);
    }
    await apply(everything, { run });
    const text = but(/^nft -y/, 0, '', `table ${table} {\n}\n`);
    t.match(await verify(everything, { run: text }), { where: /nft table/ }, 'two listings that differ');
    await remove('all', { run });
    await apply(redirect, { run });
    t.equal(
      await remove('all', { run: but(/^ip /, 0) }),
      true,
      'an old ip, which prints nothing for nothing',
    );
  });

  t.test('a comment of somebody else that looks like a listing', async (t) => {
    nft(`table ip evil {
      chain c {
        comment "x\n\ttable ip6 original-dst-all {\n\t\tchain record {\n"
        type filter hook input priority 0
        accept comment "}\n}\ntable ip original-dst-all {\n"
      }
    }`);
    for (const forged of ['a\nCOMMIT\n*mangle\n:odst-all-out - [0:0]\n-A x', '"\nCOMMIT\n# x']) {
      sh(`iptables -t nat -A INPUT -m comment --comment '${forged}' -j RETURN`);
    }
    const before = snapshot();
    t.equal(await remove('all', { run }), false, 'nothing of ours');
    for (const backend of ['nftables', 'iptables'] as const) {
      await apply(redirect, { run, backend });
      t.equal(await verify(redirect, { run, backend }), undefined, 'all of ours');
      t.equal(await remove('all', { run }), true);
      t.equal(changes(before), '', 'and nothing but ours');
    }
    sh('nft delete table ip evil; iptables -t nat -F INPUT');
  });

  t.test('a table that iptables cannot show', async (t) => {
    sh('nft flush ruleset');
    const before = snapshot();
    const native = (table: string, chain: string): string =>
      `nft add rule ip ${table} ${chain} tcp dport 81 mark set numgen inc mod 2`;
    await apply(everything, { run, backend: 'iptables' });
    sh(`iptables -t nat -A OUTPUT -p tcp --dport 9 -j ACCEPT; ${native('nat', 'OUTPUT')}`);
    for (const attempt of [
      () => apply(everything, { run, backend: 'iptables' }),
      () => verify(everything, { run, backend: 'iptables' }),
      () => remove('all', { run: but(/^nft/, null) }),
    ]) {
      const error = await failure(attempt());
      t.match(error, {
        code: 'ERR_RULES_UNREADABLE',
        message: /its table (ip )?nat/,
        hint: /nft -a list table ip nat/,
      });
    }
    t.match(await verify(everything, { run }), { found: undefined }, 'seen to be another back-end’s');
    t.equal(await remove('all', { run }), true, 'nft removes what iptables cannot');
    t.notMatch(sh('nft list ruleset'), /odst-/);
    t.match(sh('nft list table ip nat'), /dport 9.*accept/, 'and nothing else');
    t.equal(await remove('all', { run }), false);

    await apply(redirect, { run });
    t.equal(await verify(redirect, { run }), undefined, 'nftables does not mind');
    await remove('all', { run });
    sh('nft delete table ip nat');

    // The record's comments only iptables can read.
    await apply(everything, { run, backend: 'iptables' });
    sh(`iptables -N mine; ${native('filter', 'mine')}`);
    const error = await failure(remove('all', { run }));
    t.match(error, { code: 'ERR_RULES_UNREADABLE', hint: /nft -a list table ip filter/ });
    sh('nft flush chain ip filter mine; iptables -X mine');
    t.equal(await remove('all', { run }), true);
    t.equal(changes(before), '');

    nft('table ip nat {\nchain odst-all-out {\n}\nchain a/b {\njump odst-all-out\n}\n}');
    for (const script of ['true', native('nat', 'a/b')]) {
      sh(script);
      const odd = await failure(remove('all', { run }));
      t.match(odd, { code: 'ERR_RULES_UNREADABLE', message: /a chain called a\/b/ });
    }
    sh('nft delete table ip nat');
  });

  t.test('tools of a family or a back-end that is not asked for', async (t) => {
    const v4 = planRules({
      name: 'all',
      families: ['IPv4'],
      outbound: { mode: 'redirect', port: 15001 },
      exempt: { marks: [7] },
    });
    const before = snapshot();
    const failing = but(/^ip6tables/, 1, 'ip6tables-save: cannot say why');
    for (const tools of [failing, but(/^ip6tables/, null), but(/^(nft|ip6tables)/, null)]) {
      await apply(v4, { backend: 'iptables', run: tools });
      t.equal(await verify(v4, { backend: 'iptables', run: tools }), undefined);
      t.equal(await remove('all', { run: tools }), true);
      t.equal(await remove('all', { run: tools }), false);
      t.match(await failure(apply(redirect, { backend: 'iptables', run: tools })), {
        message: /^ip6tables-save/,
      });
      sh('nft flush ruleset');
    }
    t.equal(changes(before), '');

    // Nobody else can say what there is.
    const alone: RunStep = (step) =>
      step.command[0] === 'nft' ? Promise.resolve({ status: null, stdout: '', stderr: '' }) : failing(step);
    t.match(await failure(remove('all', { run: alone })), {
      code: 'ERR_RULES_COMMAND',
      message: /^ip6tables-save/,
    });
    const legacy: RunStep = async (step) =>
      step.command.join(' ') === 'cat /proc/net/ip6_tables_names'
        ? { status: 0, stdout: 'nat\n', stderr: '' }
        : failing(step);
    t.match(await failure(remove('all', { run: legacy })), { message: /^ip6tables-save/ });
    await apply(redirect, { run, backend: 'iptables' });
    t.match(
      await failure(remove('all', { run: failing })),
      { message: /^ip6tables-save/ },
      'nft sees its chains',
    );
    await remove('all', { run });

    // A kernel without nf_tables, where nft is installed.
    const noNfTables = but(/^nft/, 1, 'netlink: Error: cache initialization failed: Invalid argument');
    await apply(v4, { backend: 'iptables', run: noNfTables });
    t.equal(await remove('all', { run: noNfTables }), true);
    t.match(await failure(apply(v4, { run: noNfTables })), { code: 'ERR_RULES_COMMAND', message: /^nft/ });
    const neither = but(/^(nft|ip6?tables.*)/, null);
    t.match(await failure(apply(v4, { backend: 'iptables', run: neither })), {
      code: 'ERR_RULES_TOOL_MISSING',
      message: /iptables-save/,
    });
    t.equal((await runStep({ why: 'x', command: ['no-such-program'] })).status, null);
  });
});
