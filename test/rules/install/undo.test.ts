// Facts of a record: read as they were written, or refused.
import * as fc from 'fast-check';
import t from 'tap';
import { settingPath } from '../../../lib/rules/install/sysctl.ts';
import { readUndo, writeUndo } from '../../../lib/rules/install/undo.ts';

/** UNDO_RUNS=… tries more; fast-check prints the seed of a failure. */
const numRuns = Number(process.env['UNDO_RUNS'] ?? 2000);

const SETTING =
  /^\/proc\/sys\/net\/(ipv4\/ip_forward|ipv6\/conf\/all\/forwarding|ipv4\/conf\/all\/accept_redirects|ipv[46]\/conf\/[^/]+\/forwarding)$/;

/** Facts that are nearly what a record holds, put together from its words and from what does not belong there. */
const WORDS = (
  'undo route sysctl made IPv4 IPv6 1337 133 255 0 -1 1e3 0x7 4294967296 ip ip6 inet nat filter OUTPUT record ' +
  'net ipv4 conf all ip_forward forwarding accept_redirects .. . %2e%2e %2f %00 % " { } ; \' \\ __proto__ constructor ' +
  'kernel core_pattern /proc/sys/net net/ipv4/ip_forward net/ipv4/conf/lo/forwarding net/ipv6/conf/../../../kernel/x'
).split(' ');
const word = fc.oneof(
  fc.constantFrom('', '\n', ...WORDS),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.nat().map(String),
);
const fact = fc.oneof(
  fc.array(word, { maxLength: 6 }).map((words) => words.join(' ')),
  fc.array(word, { maxLength: 6 }).map((words) => `undo sysctl ${words.join('/')} 1`),
  fc.tuple(word, word, word).map(([a, b, c]) => `undo route ${a} ${b} ${c}`),
  fc.tuple(word, word, word).map(([a, b, c]) => `undo made ${a} ${b} ${c}`),
  fc.tuple(word, word).map(([name, value]) => `undo sysctl net/ipv4/conf/${name}/forwarding ${value}`),
);

t.test('a fact is read as it was written, or refused', async (t) => {
  const accepted = new Set<string>();
  fc.assert(
    fc.property(fact, (text) => {
      let undo;
      try {
        undo = readUndo([text], 'here', 'remedy');
      } catch (error) {
        t.match(error, { code: 'ERR_RULES_UNREADABLE', hint: /remedy/ });
        return;
      }
      accepted.add(text.split(' ')[1]!);
      const { routes, sysctls, made } = undo;
      t.equal(routes.length + sysctls.length + made.length, 1);
      for (const { key, value } of sysctls) {
        t.match(settingPath(key), SETTING);
        t.notMatch(key, /(^|\/)\.\.?(\/|$)/, 'leads nowhere else');
        t.match(value, /^-?\d{1,10}$/);
      }
      for (const { family, mark, table } of routes) {
        t.match(family, /^IPv[46]$/);
        for (const number of [mark, table]) t.ok(Number.isInteger(number) && number > 0 && number < 2 ** 32);
        t.notOk([253, 254, 255].includes(table), 'none of the kernel’s own tables');
      }
      for (const entry of made)
        t.match(
          entry,
          /^ip6? (raw|mangle|nat|filter)( (PREROUTING|OUTPUT|FORWARD))?$/,
          'no text of anybody’s',
        );
    }),
    { numRuns, seed: 1 },
  );
  t.ok(accepted.has('sysctl'), 'some were good');
});

t.test('what is written can be read, whatever the interfaces are called', async (t) => {
  const name = fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 15 })
    .filter((text) => Buffer.byteLength(text) < 16 && !/[/:\0\t-\r ]/.test(text) && !/^\.\.?$/.test(text));
  const undo = fc.record({
    routes: fc.array(
      fc.record({
        family: fc.constantFrom('IPv4' as const, 'IPv6' as const),
        mark: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
        table: fc.integer({ min: 1, max: 252 }),
      }),
    ),
    sysctls: fc.array(
      fc.record({
        key: fc.oneof(
          fc.constantFrom('net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding'),
          name.map((text) => `net/ipv4/conf/${text}/forwarding`),
        ),
        value: fc.constantFrom('0', '1', '2'),
      }),
    ),
    made: fc.array(fc.constantFrom('ip nat', 'ip6 raw PREROUTING', 'ip filter', 'ip filter FORWARD')),
  });
  fc.assert(
    fc.property(undo, (value) => {
      const comments = writeUndo(value);
      t.same(readUndo(comments, '', ''), value);
      for (const comment of comments) {
        t.match(comment, /^[\w./%@ -]+$/, 'cannot end a quoted text');
        t.ok(comment.length < 128, 'nft’s limit for a comment');
      }
    }),
    { numRuns: 300, seed: 1 },
  );
});

t.test('a plan cannot name any file either', async (t) => {
  for (const key of ['kernel/core_pattern', 'net/ipv4/conf/../../../kernel/core_pattern', 'net/ipv4/tcp_mem'])
    t.throws(() => settingPath(key), { code: 'ERR_RULES_OPTION' });
});
