import t from 'tap';
import { familyOf, formatEndpoint, isWildcard, unmap } from '../lib/address.ts';

t.test('unmap', async (t) => {
  t.equal(unmap('::ffff:192.0.2.1'), '192.0.2.1');
  t.equal(unmap('::FFFF:192.0.2.1'), '192.0.2.1');
  for (const other of ['192.0.2.1', '::1', 'fe80::1%eth0', '::ffff:c000:201', 'example.org', '']) {
    t.equal(unmap(other), other);
  }
});

t.test('familyOf', async (t) => {
  t.equal(familyOf('192.0.2.1'), 'IPv4');
  t.equal(familyOf('2001:db8::1'), 'IPv6');
  t.equal(familyOf('fe80::1%eth0'), 'IPv6');
  for (const none of ['', 'example.org', '192.0.2', '[::1]']) t.equal(familyOf(none), undefined);
});

t.test('isWildcard', async (t) => {
  t.ok(isWildcard('::'));
  t.ok(isWildcard('0.0.0.0'));
  t.notOk(isWildcard('::1'));
  t.notOk(isWildcard('127.0.0.1'));
});

t.test('formatEndpoint', async (t) => {
  t.equal(formatEndpoint({ address: '192.0.2.1', port: 80 }), '192.0.2.1:80');
  t.equal(formatEndpoint({ address: '2001:db8::1', port: 443 }), '[2001:db8::1]:443');
});
