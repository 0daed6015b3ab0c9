// Addresses in the addon's memory as objects, each made once.
import t from 'tap';
import { EndpointCache } from '../../lib/udp/endpoint-cache.ts';

/** struct Endpoint: fe80::1, port 53, by way of an interface. */
function linkLocal(scope: number): ArrayBuffer {
  const memory = new ArrayBuffer(24);
  new Uint16Array(memory).set([6, 53]);
  new Int32Array(memory)[1] = scope;
  new Uint8Array(memory).set([0xfe, 0x80], 8);
  new Uint8Array(memory)[23] = 1;
  return memory;
}

t.test('a link-local address is made anew: an interface’s name can become another one’s', async (t) => {
  const cache = new EndpointCache(linkLocal(1));
  const first = cache.get(0);
  t.same(first, { address: 'fe80::1%lo', port: 53, family: 'IPv6' });
  t.not(cache.get(0), first);
});

t.test('any other address is made once', async (t) => {
  const cache = new EndpointCache(linkLocal(0));
  t.equal(cache.get(0), cache.get(0));
});
