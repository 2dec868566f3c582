import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { encodeCommand, RespReader, type RespValue } from '../src/resp.js';

test('a command that is cut anywhere is read as it was written', () => {
  fc.assert(
    fc.property(fc.array(fc.array(fc.string({ unit: 'binary' }), { minLength: 1 })), fc.integer({ min: 1, max: 7 }), (commands, size) => {
      const bytes = Buffer.concat(commands.map((words) => Buffer.from(encodeCommand(...words))));
      const reader = new RespReader();
      const values: RespValue[] = [];
      for (let at = 0; at < bytes.length; at += size) values.push(...reader.read(bytes.subarray(at, at + size)));
      expect(values).toEqual(commands.map((words) => words.map((word) => Buffer.from(word).toString('utf8'))));
    }),
  );
});

test('each kind of value is told apart', () => {
  const values = new RespReader().read(Buffer.from('+OK\r\n-ERR no\r\n:7\r\n$-1\r\n*0\r\n*2\r\n$1\r\na\r\n*1\r\n:1\r\n'));
  expect(values).toEqual(['OK', new Error('ERR no'), 7, null, [], ['a', [1]]]);
});

test('what is not RESP is an error', () => {
  expect(() => new RespReader().read(Buffer.from('HTTP/1.1 400 Bad Request\r\n'))).toThrow('not RESP');
});
