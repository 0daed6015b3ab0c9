// An intercepted server is in every other respect as it was: the same scenarios against a plain and an intercepted
// one give the same events, in the same order, with the same errors.
import { EventEmitter, once } from 'node:events';
import * as http from 'node:http';
import * as net from 'node:net';
import * as tls from 'node:tls';
import t from 'tap';
import { createServer, intercept } from '../../lib/index.ts';
import { makeCertificate } from '../fixtures/certificate.ts';
import { closed, describe, Log } from '../fixtures/event-log.ts';
import { inNamespace } from '../fixtures/netns.ts';

const certificate = makeCertificate();

interface Make {
  net(options?: net.ServerOpts, listener?: (socket: net.Socket) => void): net.Server;
  http(listener: http.RequestListener): http.Server;
  tls(listener: (socket: tls.TLSSocket) => void): tls.Server;
}

const plain: Make = {
  net: (options, listener) => net.createServer(options, listener),
  http: (listener) => http.createServer(listener),
  tls: (listener) => tls.createServer(certificate, listener),
};
const intercepted: Make = {
  net: (options, listener) => intercept(net.createServer(options, listener)),
  http: (listener) => intercept(http.createServer(listener)),
  tls: (listener) => intercept(tls.createServer(certificate, listener)),
};
const created: Make = {
  ...intercepted,
  net: (options, listener) => createServer(options, listener) as net.Server,
};

async function listen(server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

function dial(log: Log, port: number, name = 'client'): net.Socket {
  const socket = log.watch(name, net.connect(port, '127.0.0.1'));
  socket.on('error', () => {});
  return socket;
}

const scenarios: Record<string, (make: Make, log: Log) => Promise<void>> = {
  'echo and half-close': async (make, log) => {
    const server = log.watch(
      'server',
      make.net({ allowHalfOpen: true }, (socket) => log.watch('socket', socket).pipe(socket)),
    );
    const client = dial(log, await listen(server));
    client.end('hello');
    let echoed = '';
    client.on('data', (data) => (echoed += String(data)));
    await closed(client);
    log.add('client', echoed);
    server.close();
    await closed(server);
  },

  'the client resets': async (make, log) => {
    const server = log.watch(
      'server',
      make.net({}, (socket) =>
        log
          .watch('socket', socket)
          .on('error', () => {})
          .resume(),
      ),
    );
    const client = dial(log, await listen(server));
    const [socket] = (await once(server, 'connection')) as [net.Socket];
    client.resetAndDestroy();
    await closed(socket);
    server.close();
    await closed(server);
  },

  'the address is in use': async (make, log) => {
    const first = make.net();
    const port = await listen(first);
    const second = log.watch('server', make.net());
    second.listen(port, '127.0.0.1', () => log.add('server', 'callback'));
    const [error] = (await once(second, 'error')) as [NodeJS.ErrnoException & net.AddressInfo];
    const { code, syscall, address, port: reported } = error;
    log.add('server', JSON.stringify({ code, syscall, address, same: reported === port }));
    log.add('server', `listening ${second.listening} ${second.address()}`);
    second.listen(0); // and it can listen after all
    await once(second, 'listening');
    first.close();
    second.close();
    await closed(second);
  },

  'an address that is not here, a port that is none, a path that cannot be': async (make, log) => {
    for (const options of [{ port: 0, host: '192.0.2.200' }, { path: '/nowhere/socket' }]) {
      const server = log.watch('server', make.net());
      server.listen(options);
      await once(server, 'error');
    }
    for (const bad of [70_000, {}, Number.NaN]) {
      const server = log.watch('server', make.net());
      try {
        server.listen(bad as number);
      } catch (error) {
        log.add('server', `throws ${describe(error)}`);
      }
    }
  },

  'listens twice, closes twice': async (make, log) => {
    const server = log.watch('server', make.net());
    await listen(server);
    try {
      server.listen(0);
    } catch (error) {
      log.add('server', `throws ${describe(error)}`);
    }
    server.close((error) => log.add('server', `closed ${describe(error)}`));
    server.close((error) => log.add('server', `closed again ${describe(error)}`));
    await closed(server);
    server.close((error) => log.add('server', `closed late ${describe(error)}`));
    await new Promise(setImmediate);
  },

  'closes while connections wait': async (make, log) => {
    const server = log.watch(
      'server',
      make.net({}, (socket) => log.watch('socket', socket)),
    );
    const port = await listen(server);
    const client = dial(log, port);
    await new Promise<void>((resolve) => process.nextTick(resolve)); // the handshake is done, nothing accepted
    server.close();
    await Promise.all([closed(client), closed(server)]);
  },

  'closes with connections open': async (make, log) => {
    const server = log.watch(
      'server',
      make.net({}, (socket) => log.watch('socket', socket).resume()),
    );
    const client = dial(log, await listen(server));
    await once(server, 'connection');
    server.close();
    server.getConnections((error, count) => log.add('server', `${describe(error)} ${count}`));
    await new Promise(setImmediate);
    client.end();
    await closed(server);
  },

  'more connections than maxConnections': async (make, log) => {
    const server = log.watch(
      'server',
      make.net({}, (socket) => socket.resume().on('error', () => {})),
    );
    server.maxConnections = 1;
    const port = await listen(server);
    const first = net.connect(port, '127.0.0.1').on('error', () => {});
    await once(server, 'connection');
    const second = dial(log, port);
    await Promise.all([once(server, 'drop'), closed(second)]);
    first.end();
    server.close();
    await closed(server);
  },

  'listeners: order, once, prepend, remove, count': async (make, log) => {
    const server = make.net();
    const note = (name: string) => () => log.add('server', name);
    const removed = note('removed');
    server.on('connection', note('on')).once('connection', note('once')).on('connection', removed);
    server.prependListener('connection', note('first')).prependOnceListener('connection', note('first once'));
    server.removeListener('connection', removed);
    log.add('server', `${server.listenerCount('connection')} ${String(server.eventNames())}`);
    log.add(
      'server',
      Object.keys(server)
        .filter((key) => key !== 'interceptStats')
        .join(),
    );
    log.add(
      'server',
      String([server.emit('nobody'), server.emit('connection', new EventEmitter() as net.Socket)]),
    );
    const port = await listen(server);
    for (let i = 0; i < 2; i++) {
      const client = net.connect(port, '127.0.0.1');
      const [socket] = (await once(server, 'connection')) as [net.Socket];
      log.add('server', `${server.listenerCount('connection')}`);
      client.destroy();
      socket.destroy();
    }
    server.close();
    await closed(server);
  },

  'a handler that throws': async (make, log) => {
    const server = log.watch(
      'server',
      make.net({}, (socket) => {
        log.watch('socket', socket).resume();
        throw new Error('thrown by the handler');
      }),
    );
    const port = await listen(server);
    const thrown = new Promise<void>((resolve) => {
      process.setUncaughtExceptionCaptureCallback((error) => {
        log.add('process', error.message);
        resolve();
      });
    });
    const client = dial(log, port);
    await thrown;
    process.setUncaughtExceptionCaptureCallback(null);
    log.add('server', `listening ${server.listening}`);
    log.add('server', `connections ${await connections(server)}`);
    client.end();
    server.close();
    await closed(server);
  },

  'options of accepted sockets': async (make, log) => {
    const options = {
      pauseOnConnect: true,
      allowHalfOpen: true,
      highWaterMark: 4321,
      keepAlive: true,
      noDelay: true,
    };
    const server = make.net(options, (socket) => {
      const { allowHalfOpen, readableHighWaterMark, writableHighWaterMark, readableFlowing, bytesRead } =
        socket;
      log.add(
        'socket',
        JSON.stringify({
          allowHalfOpen,
          readableHighWaterMark,
          writableHighWaterMark,
          readableFlowing,
          bytesRead,
        }),
      );
      log.watch('socket', socket);
      socket.resume().once('data', (data) => socket.end(data));
    });
    const client = dial(log, await listen(server));
    client.resume().end('x');
    await closed(client);
    server.close();
    await closed(server);
  },

  'a blocked peer': async (make, log) => {
    // Node looks at the option from 22.13 and 23; before, the connection is a usual one.
    const blockList = new net.BlockList();
    blockList.addAddress('127.0.0.1');
    const server = log.watch(
      'server',
      make.net({ blockList } as net.ServerOpts, (socket) => log.watch('socket', socket).end()),
    );
    const client = dial(log, await listen(server)).resume();
    await closed(client);
    server.close();
    await closed(server);
  },

  'http: keep-alive, a bad request, a handler that is late': async (make, log) => {
    const server = log.watch(
      'server',
      make.http((request, response) => {
        log.watch('request', request);
        log.watch('response', response);
        setImmediate(() => response.end(request.url));
      }),
    );
    const port = await listen(server);
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    for (const path of ['/one', '/two']) {
      const [response] = (await once(http.get({ port, path, agent, host: '127.0.0.1' }), 'response')) as [
        http.IncomingMessage,
      ];
      let body = '';
      for await (const chunk of response) body += String(chunk);
      log.add('client', body);
    }
    agent.destroy();
    const client = dial(log, port).resume();
    client.write('rubbish\r\n\r\n');
    await closed(client);
    server.close();
    await closed(server);
  },

  'tls: a handshake, and rubbish in its place': async (make, log) => {
    const server = log.watch(
      'server',
      make.tls((socket) => {
        log.watch('secure', socket);
        socket.end('hello');
      }),
    );
    const port = await listen(server);
    const client = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
    log.watch('client', client).resume();
    await closed(client);
    const rubbish = dial(log, port, 'rubbish').resume();
    rubbish.write('no handshake at all\r\n\r\n');
    await Promise.all([once(server, 'tlsClientError').catch(() => {}), closed(rubbish)]);
    server.close();
    await closed(server);
  },
};

const connections = (server: net.Server): Promise<number> =>
  new Promise((resolve) => server.getConnections((_, count) => resolve(count)));

async function run(scenario: (make: Make, log: Log) => Promise<void>, make: Make): Promise<Log['parties']> {
  const log = new Log();
  await scenario(make, log);
  await Promise.all(log.closing);
  return log.parties;
}

await inNamespace(t, import.meta.url, async () => {
  for (const [name, scenario] of Object.entries(scenarios)) {
    await t.test(name, async (t) => {
      const expected = await run(scenario, plain);
      t.ok(Object.keys(expected).length > 0, JSON.stringify(expected));
      t.same(await run(scenario, intercepted), expected, 'intercept()');
      t.same(await run(scenario, created), expected, 'createServer()');
    });
  }
});
