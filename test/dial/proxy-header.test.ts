// PROXY protocol headers that are sent are read as what was meant.
import * as fc from 'fast-check';
import t from 'tap';
import { canonicalAddress, familyOf, type Endpoint } from '../../lib/address.ts';
import { writeProxyHeader } from '../../lib/dial/proxy-header.ts';
import { parseProxyHeader } from '../../lib/recover/proxy-header.ts';

const numRuns = Number(process.env['FUZZ_RUNS'] ?? 200);

t.test('by the parser of the other end', (t) => {
  const port = fc.integer({ min: 0, max: 65535 });
  const end = (address: fc.Arbitrary<string>): fc.Arbitrary<Endpoint> =>
    fc.record({ address, port }).map((given) => {
      const canonical = canonicalAddress(given.address)!;
      return { ...given, address: canonical, family: familyOf(canonical) };
    });
  const ends = fc
    .oneof(fc.tuple(end(fc.ipV4()), end(fc.ipV4())), fc.tuple(end(fc.ipV6()), end(fc.ipV6())))
    .filter(([a, b]) => a.family === b.family);
  const uniqueId = fc.option(fc.uint8Array({ maxLength: 128 }), { nil: undefined });
  const authority = fc.option(fc.domain(), { nil: undefined });
  fc.assert(
    fc.property(
      ends,
      fc.constantFrom(1, 2),
      uniqueId,
      authority,
      ([client, destination], version, id, name) => {
        const header = writeProxyHeader(version as 1 | 2, {
          client,
          destination,
          ...(id === undefined ? {} : { uniqueId: id }),
          ...(name === undefined ? {} : { authority: name }),
        });
        const read = parseProxyHeader(header);
        if (typeof read === 'number' || read.version !== version) return false;
        const told = version === 2 ? [name, id && Buffer.from(id)] : [undefined, undefined];
        t.same(
          [read.client, read.destination, read.authority, read.uniqueId],
          [client, destination, ...told],
        );
        return true;
      },
    ),
    { numRuns },
  );
  t.end();
});

t.test('what is not known, and interfaces of this host', (t) => {
  const client: Endpoint = { address: 'fe80::1%eth0', port: 1, family: 'IPv6' };
  const destination: Endpoint = { address: 'fe80::2%eth0', port: 2, family: 'IPv6' };
  for (const version of [1, 2] as const) {
    t.same(parseProxyHeader(writeProxyHeader(version, { client })), { version, tlvs: [] });
    t.match(parseProxyHeader(writeProxyHeader(version, { client, destination })), {
      client: { address: 'fe80::1', port: 1 },
      destination: { address: 'fe80::2', port: 2 },
    });
  }
  t.end();
});
