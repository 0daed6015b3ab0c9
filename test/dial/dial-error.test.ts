// Errors of each step of a dial.
import t from 'tap';
import { dialError } from '../../lib/dial/dial-error.ts';

const ends = {
  source: { address: '192.0.2.2', port: 40000 },
  destination: { address: '198.51.100.7', port: 443 },
};

t.test('each step names what it was about', (t) => {
  t.match(dialError(-32, 0, ends), { code: 'EPIPE', errno: -32, syscall: 'relay', address: undefined });
  t.match(dialError(-24, 1, ends), { code: 'EMFILE', syscall: 'socket', address: undefined });
  const options = [
    'SO_BINDTODEVICE',
    'SO_MARK',
    'IP_TRANSPARENT',
    'IP_FREEBIND',
    'IP_BIND_ADDRESS_NO_PORT',
    'SO_REUSEADDR',
  ];
  for (const [index, option] of options.entries()) {
    const error = dialError(-1, 2 + index, ends);
    t.match(error, { code: 'EPERM', syscall: 'setsockopt', address: undefined });
    t.match(error.message, new RegExp(`^setsockopt ${option} EPERM`));
  }
  t.match(dialError(-98, 8, ends), { code: 'EADDRINUSE', syscall: 'bind', ...ends.source });
  t.match(dialError(-111, 9, ends), { code: 'ECONNREFUSED', syscall: 'connect', ...ends.destination });
  t.equal(dialError(-111, 9, ends).message, 'connect ECONNREFUSED: connection refused 198.51.100.7:443');
  t.end();
});

t.test('what is not known is left out', (t) => {
  t.match(dialError(-13, 9, {}), { syscall: 'connect', address: undefined, port: undefined });
  t.end();
});
