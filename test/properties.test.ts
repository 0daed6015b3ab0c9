// What holds for every input. FUZZ_RUNS=N tries N inputs each; `npm run fuzz` does.
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import * as fc from 'fast-check';
import t from 'tap';
import { familyOf, formatEndpoint } from '../lib/address.ts';
import * as api from '../lib/index.ts';

const numRuns = Number(process.env['FUZZ_RUNS'] ?? 200);

const port = fc.integer({ min: 0, max: 65535 });

/** Anything, numbers that could be descriptors more often than chance would have it. */
const anything = fc.oneof(
  fc.anything(),
  fc.integer(),
  fc.constantFrom(-1, 2 ** 31, NaN, null, undefined, '3'),
);

t.test('the authority form is one that URL takes apart again', (t) => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), port, (address, port) => {
      const url = new URL(`http://${formatEndpoint({ address, port })}/`);
      return (
        Number(url.port || 80) === port && familyOf(url.hostname.replace(/[[\]]/g, '')) === familyOf(address)
      );
    }),
    { numRuns },
  );
  t.end();
});

t.test('a function given anything at all answers, or throws an error with a code', (t) => {
  // Descriptors from 1000 on: none is open, and a stray success would be noticed.
  const fd = fc.oneof(anything, fc.integer({ min: 1000 }));
  const argument = fc.oneof(anything, fc.boolean());
  const functions: [name: string, call: (fd: never, argument: never) => unknown][] = [
    ['getOriginalDst', api.getOriginalDst],
    ['getTransparent', api.getTransparent],
    ['setTransparent', api.setTransparent],
    ['setFreebind', api.setFreebind],
    ['setMark', api.setMark],
    ['setBindAddressNoPort', api.setBindAddressNoPort],
    ['recoverOriginalDst', api.recoverOriginalDst],
    ['intercept', api.intercept],
    ['processOf', api.processOf],
    [
      'connectVia',
      (proxy, destination) =>
        api
          .connectVia(proxy, destination)
          .on('error', () => {})
          .destroy(),
    ],
    ['createServer', (options) => api.createServer(options).close()],
  ];
  const openBefore = readdirSync('/proc/self/fd').length;
  for (const [name, call] of functions) {
    fc.assert(
      fc.property(fd, argument, (fd, argument) => {
        if (typeof fd === 'number' && fd >= 0 && fd < 1000) return true;
        try {
          call(fd as never, argument as never);
        } catch (error) {
          const { code } = error as NodeJS.ErrnoException;
          if (!/^(ERR_[A-Z_]+|E[A-Z]+)$/.test(String(code))) throw error;
        }
        return true;
      }),
      { numRuns },
    );
    t.pass(name);
  }
  t.equal(readdirSync('/proc/self/fd').length, openBefore, 'no descriptor is left open');
  t.end();
});

t.test('a loopback destination comes back as it was dialled', async (t) => {
  const server = api.createServer((socket) => socket.end(JSON.stringify(socket.originalDst)));
  t.teardown(() => server.close());
  server.listen(0);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await fc.assert(
    fc.asyncProperty(
      fc.ipV4().map((address) => address.replace(/^\d+/, '127')),
      async (address) => {
        if (address === '127.255.255.255' || address === '127.0.0.0') return true; // broadcast
        const socket = connect(port, address);
        const [data] = (await once(socket, 'data')) as [Buffer];
        socket.destroy();
        const dst = JSON.parse(String(data)) as api.OriginalDst;
        return dst.kind === 'unknown' || (dst.address === address && dst.port === port);
      },
    ),
    { numRuns: Math.min(numRuns, 2000) },
  );
});
