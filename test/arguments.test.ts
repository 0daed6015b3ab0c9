// What callers pass in wrongly, and the errors that they get: Node's own words.
import t from 'tap';
import { checkBoolean, checkFd, checkInteger, invalidType, outOfRange } from '../lib/arguments.ts';

t.test('argument errors in Node’s words', async (t) => {
  for (const [value, described] of [
    ['text', "'text'"],
    ['x'.repeat(50), `'${'x'.repeat(40)}…'`],
    [null, 'null'],
    [undefined, 'undefined'],
    [5, '5'],
    [5n, '5'],
    [new Map(), 'an instance of Map'],
    [Object.create(null), 'an instance of Object'],
    [() => {}, 'an instance of Function'],
  ] as const) {
    const error = invalidType('fd', 'of type number', value);
    t.type(error, TypeError);
    t.match(error, {
      code: 'ERR_INVALID_ARG_TYPE',
      message: `The "fd" argument must be of type number. Received ${described}`,
    });
  }
  const error = outOfRange('fd', '>= 0', -1);
  t.type(error, RangeError);
  t.match(error, {
    code: 'ERR_OUT_OF_RANGE',
    message: 'The value of "fd" is out of range. It must be >= 0. Received -1',
  });
});

t.test('checks', async (t) => {
  checkInteger('n', 0, 0, 5);
  checkInteger('n', 5, 0, 5);
  t.throws(() => checkInteger('n', '5', 0, 5), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => checkInteger('n', 1.5, 0, 5), { code: 'ERR_OUT_OF_RANGE', message: /an integer/ });
  t.throws(() => checkInteger('n', NaN, 0, 5), { code: 'ERR_OUT_OF_RANGE', message: /an integer/ });
  t.throws(() => checkInteger('n', -1, 0, 5), { code: 'ERR_OUT_OF_RANGE', message: />= 0 && <= 5/ });
  t.throws(() => checkInteger('n', 6, 0, 5), { code: 'ERR_OUT_OF_RANGE' });
  checkBoolean('b', false);
  t.throws(() => checkBoolean('b', 0), { code: 'ERR_INVALID_ARG_TYPE', message: /"b".*of type boolean/ });
});

t.test('checkFd', async (t) => {
  checkFd(0);
  checkFd(2 ** 31 - 1);
  for (const bad of [-1, 2 ** 31, 0.5, NaN]) t.throws(() => checkFd(bad), { code: 'ERR_OUT_OF_RANGE' });
  for (const bad of ['0', undefined, null, 1n])
    t.throws(() => checkFd(bad), { code: 'ERR_INVALID_ARG_TYPE' });
});
