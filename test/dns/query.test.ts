// DNS messages of whoever sends them: read, answered or refused, and never a crash.
import * as dns from 'dns-packet';
import * as fc from 'fast-check';
import t from 'tap';
import { answers, encodeAnswer, encodeQuery, framed, MessageCutter, readQuery } from '../../lib/dns/query.ts';

const runs = { numRuns: Number(process.env['FUZZ_RUNS'] ?? 3000) };

const label = fc.string({ unit: fc.constantFrom(...'abcZ09-_'), minLength: 1, maxLength: 12 });
const good = fc
  .record({
    name: fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.')),
    type: fc.constantFrom('A', 'AAAA', 'TXT', 'UNKNOWN_65', 'MX'),
    id: fc.nat(65535),
    edns: fc.boolean(),
  })
  .map(({ name, type, id, edns }) => {
    const opt = { name: '.', type: 'OPT', udpPayloadSize: 1400, flags: dns.DNSSEC_OK, options: [] };
    const additionals = (edns ? [opt] : []) as unknown as dns.Answer[];
    const questions = [{ type: type as 'A', name }];
    return { name, id, edns, message: dns.encode({ type: 'query', id, questions, additionals }) };
  });
const damaged = fc
  .tuple(good, fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 5 }), fc.nat(80))
  .map(([{ message }, changes, length]) => {
    const copy = Buffer.from(message).subarray(0, length);
    for (const [at, byte] of changes) if (at < copy.length) copy[at] = byte;
    return copy;
  });
const rubbish = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));

t.test('what is asked is read, asked and answered as it was', async () => {
  fc.assert(
    fc.property(good, fc.nat(65535), ({ message, name, id, edns }, other) => {
      const query = readQuery(message);
      if (query === undefined || Buffer.isBuffer(query)) return false;
      const sent = encodeQuery(query, other);
      const again = dns.decode(sent);
      const addresses = ['192.0.2.1', '2001:db8::1'];
      const answer = encodeAnswer(query, 0, { addresses, ttl: 5 }, query.room);
      const asked = readQuery(sent);
      return (
        query.question.name === name &&
        query.id === id &&
        query.room === (edns ? 1400 : 512) &&
        again.id === other &&
        again.questions![0]!.name === name &&
        !Buffer.isBuffer(asked) &&
        asked?.edns?.dnssec === (edns ? true : undefined) &&
        answers(answer, message) &&
        answers(answer, sent) === (id === other)
      );
    }),
    runs,
  );
});

t.test('a name that would be asked as another is refused', (t) => {
  const message = dns.encode({ type: 'query', id: 7, questions: [{ type: 'A', name: 'aaaaaa.x' }] });
  message[message.lastIndexOf('x')] = 10;
  t.same((readQuery(message) as Buffer).subarray(0, 4), Buffer.from([0, 7, 0x80, 1]), 'FORMERR');
  t.end();
});

t.test('whatever comes', async () => {
  fc.assert(
    fc.property(fc.oneof(damaged, rubbish), damaged, (message, another) => {
      const query = readQuery(message);
      if (query === undefined) return true;
      // A refusal is a header with the id that came, and says that it is an answer.
      if (Buffer.isBuffer(query))
        return query.length === 12 && query.readUInt16BE() === message.readUInt16BE();
      const sent = encodeQuery(query, 7);
      const answer = encodeAnswer(query, 3, { addresses: [], ttl: 0 }, 512);
      answers(another, sent);
      return answers(answer, message) && !answers(sent, sent);
    }),
    runs,
  );
});

t.test('messages of a stream, cut anywhere', async () => {
  fc.assert(
    fc.property(fc.array(rubbish, { maxLength: 5 }), fc.integer({ min: 1, max: 40 }), (messages, size) => {
      const stream = Buffer.concat(messages.map(framed));
      const cutter = new MessageCutter();
      const found: Buffer[] = [];
      for (let at = 0; at < stream.length; at += size)
        found.push(...cutter.push(stream.subarray(at, at + size)));
      return found.length === messages.length && found.every((one, i) => one.equals(messages[i]!));
    }),
    { numRuns: 300 },
  );
});
