// createDnsForwarder(): its options, where it listens, how it ends.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import t from 'tap';
import { createDnsForwarder } from '../../lib/index.ts';
import { startForwarder as start } from '../fixtures/dns-forwarder.ts';
import { ask, portOf, query, testResolver } from '../fixtures/dns-resolver.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { until } from '../fixtures/relay-network.ts';

await inNamespace(t, import.meta.url, async () => {
  t.test('from the beginning to the end', async (t) => {
    const resolver = await testResolver(t, () => []);
    const { server, at } = await start(t, { upstream: resolver }, { host: '127.0.0.1' });
    t.match(server.address(), { address: '127.0.0.1', port: at.port });
    t.throws(() => server.listen(), { code: 'ERR_SERVER_ALREADY_LISTEN' });
    const failed = async (where: object): Promise<NodeJS.ErrnoException> => {
      const other = createDnsForwarder({ upstream: resolver }).listen(where);
      const [error] = (await once(other, 'error').catch((reason: Error) => [reason])) as [
        NodeJS.ErrnoException,
      ];
      t.equal(other.address(), null);
      return error;
    };
    t.match(await failed({ port: at.port, host: '127.0.0.1' }), { code: 'EADDRINUSE' }, 'by UDP');
    const tcp = createServer().listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    t.match(await failed({ port: portOf(tcp), host: '127.0.0.1' }), { code: 'EADDRINUSE' }, 'by TCP');
    tcp.close();

    const pending = ask(at, query('a.test'), 300);
    const open = connect(at.port, '127.0.0.1');
    open.on('error', () => {});
    open.write(Buffer.from([0, 5]));
    await until(() => resolver.asked.length === 1);
    const closed = once(open, 'close');
    let told = false;
    await new Promise<void>((resolve) =>
      server.close(() => {
        told = true;
        resolve();
      }),
    );
    t.ok(told);
    await closed;
    t.equal(await pending, undefined);
    t.equal(server.address(), null);
    t.throws(() => server.listen(), { code: 'ERR_SERVER_ALREADY_LISTEN' });
    const unused = createDnsForwarder({ upstream: 'original' });
    await unused[Symbol.asyncDispose]();
  });

  t.test('what are no options', async (t) => {
    for (const [options, code] of [
      [undefined, 'ERR_INVALID_ARG_TYPE'],
      [{}, 'ERR_INVALID_ARG_TYPE'],
      [{ upstream: null }, 'ERR_INVALID_ARG_TYPE'],
      [{ upstream: { address: 'dns.test' } }, 'ERR_INVALID_ARG_TYPE'],
      [{ upstream: { address: '127.0.0.1', port: 0 } }, 'ERR_OUT_OF_RANGE'],
      [{ upstream: 'original', polcy: 1 }, 'ERR_INVALID_ARG_VALUE'],
      [{ upstream: 'original', policy: {} }, 'ERR_INVALID_ARG_TYPE'],
      [{ upstream: 'original', denied: 'drop' }, 'ERR_OUT_OF_RANGE'],
      [{ upstream: 'original', names: {} }, 'ERR_INVALID_ARG_TYPE'],
      [{ upstream: 'original', timeout: 0 }, 'ERR_OUT_OF_RANGE'],
      [{ upstream: 'original', transparent: 1 }, 'ERR_INVALID_ARG_TYPE'],
      [{ upstream: 'original', mark: -1 }, 'ERR_OUT_OF_RANGE'],
    ] as const) {
      t.throws(() => createDnsForwarder(options as never), { code }, JSON.stringify(options));
    }
    createDnsForwarder({ upstream: 'original', transparent: true, mark: 1, timeout: 5 });
  });
});
