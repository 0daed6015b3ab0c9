// Flows by name, and addresses made once.
import t from 'tap';
import { flowOf } from '../../lib/udp/deleted-flows.ts';

t.test('conntrack knows no interfaces', async (t) => {
  const at = (address: string, port: number) => ({ address, port, family: 'IPv6' as const });
  t.equal(flowOf(at('fe80::1%eth0', 5), at('fe80::2%eth0', 53)), flowOf(at('fe80::1', 5), at('fe80::2', 53)));
});
