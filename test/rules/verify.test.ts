// verify against installations that were spoiled on purpose.
import t from 'tap';
import { apply, remove, verify, type Backend } from '../../lib/rules/index.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { everything, redirect } from '../fixtures/rule-foreign.ts';
import { shell } from '../fixtures/rule-shell.ts';

await inNamespace(t, import.meta.url, async () => {
  const run = shell(t);
  t.test('verify names the first difference', async (t) => {
    const spoiled = async (
      backend: Backend,
      script: string,
      expected: object,
      before = 'true',
    ): Promise<void> => {
      await apply(everything, { backend, run });
      sh(script);
      t.match(await verify(everything, { backend, run }), expected, script);
      sh(before);
      await apply(everything, { backend, run });
      t.equal(await verify(everything, { backend, run }), undefined, 'apply mends it');
    };
    const table = 'original-dst-all';
    await spoiled('nftables', `nft flush chain ip ${table} nat-in`, {
      where: `nft table ip ${table}, chain nat-in, line 2`,
      expected: /fib daddr type != local return/,
      found: undefined,
    });
    await spoiled('nftables', `nft insert rule ip6 ${table} nat-in accept`, {
      where: `nft table ip6 ${table}, chain nat-in, line 2`,
      found: 'accept',
    });
    await spoiled('nftables', `nft add chain ip ${table} more`, {
      where: `nft table ip ${table}, chain more`,
      expected: undefined,
      found: 'the chain',
    });
    await spoiled('nftables', `nft delete table ip6 ${table}`, {
      where: `nft table ip6 ${table}`,
      expected: 'the table',
      found: undefined,
    });
    await spoiled('nftables', 'ip rule del fwmark 1337', {
      where: 'ip -4 rule',
      expected: 'fwmark 0x539 lookup 133 priority 13370 protocol 143',
      found: undefined,
    });
    await spoiled('nftables', 'ip -6 route flush table 133', {
      where: 'ip -6 route show table 133',
      expected: 'local default dev lo table 133 protocol 143',
      found: undefined,
    });
    await spoiled('nftables', 'echo 0 > /proc/sys/net/ipv4/ip_forward', {
      where: '/proc/sys/net/ipv4/ip_forward',
      expected: '1',
      found: '0',
    });
    await spoiled('iptables', 'iptables -t nat -D PREROUTING -j odst-all-in', {
      where: 'iptables -t nat, chain PREROUTING',
      expected: /chain|-j odst-all-in/,
    });
    await spoiled('iptables', 'ip6tables -t mangle -A odst-all-out -j ACCEPT', {
      where: /^ip6tables -t mangle, chain odst-all-out, line/,
      expected: undefined,
      found: '-j ACCEPT',
    });
    await spoiled(
      'iptables',
      'iptables -t nat -F PREROUTING; iptables -t nat -F odst-all-in; iptables -t nat -X odst-all-in',
      {
        where: 'iptables -t nat, chain odst-all-in',
        expected: 'the chain',
        found: undefined,
      },
    );
    await spoiled('iptables', 'iptables -t nat -N AGENT; iptables -t nat -I OUTPUT -p tcp -j AGENT', {
      where: 'iptables -t nat, chain OUTPUT',
      expected: undefined,
      found: '-p tcp -j AGENT',
    });
    await spoiled(
      'iptables',
      'iptables -A INPUT -p tcp -g odst-all-record',
      {
        where: 'iptables -t filter, chain odst-all-record',
        found: 'rules that lead to it from INPUT',
      },
      'iptables -F INPUT',
    );
    await spoiled(
      'iptables',
      'iptables -D odst-all-record 1',
      { where: 'iptables -t filter, chain odst-all-record, line 1', expected: /undo route/ },
      'nft flush ruleset',
    );
    const record = `ip ${table} record`;
    await spoiled(
      'nftables',
      `rules=$(nft -s list table ip ${table} | sed 's/chain record {/& type filter hook output priority 0;/')
      nft delete table ip ${table}
      echo "$rules" | nft -f -`,
      {
        where: `nft table ip ${table}, chain record, line 2`,
        found: 'type filter hook output priority 0; policy accept;',
      },
    );
    await spoiled('nftables', `nft add rule ${record} return comment '"undo route IPv4 9 9"'`, {
      where: /chain record, line/,
    });
    await spoiled('nftables', `nft add set ip6 ${table} more '{ type ipv4_addr; }'`, {
      where: `nft table ip6 ${table}`,
    });
    await spoiled('nftables', `nft insert rule ip6 ${table} nat-in accept comment '"a\n\u001b[31mb"'`, {
      where: `nft table ip6 ${table}, chain nat-in, line 2`,
      found: 'accept comment "a',
    });
    // One rule in the place of two, with a comment that looks like the second.
    await apply(redirect, { run });
    const [first, second] = sh(`nft -y list chain ip ${table} nat-out`)
      .split('\n')
      .slice(3)
      .map((line) => line.trim());
    nft(
      `flush chain ip ${table} nat-out\nadd rule ip ${table} nat-out ${first!.slice(0, -1)}\n\t\t${second!.replace(/"[^]*/, '')}"`,
    );
    t.match(await verify(redirect, { run }), { where: new RegExp(table) }, 'forged');
    // A route beside ours is none of ours to take away.
    await apply(everything, { run });
    sh('ip rule add fwmark 1337 lookup main priority 9');
    t.match(await verify(everything, { run }), { where: 'ip -4 rule', found: /lookup 254|lookup main/ });
    sh('ip rule del fwmark 1337 lookup main priority 9');
    await remove('all', { run });
  });
});
