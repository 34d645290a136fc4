import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Failure } from '../../model/failure.ts';
import { defaultConfig, parseConfig, readConfig } from './read.ts';

const EXAMPLES = join(import.meta.dirname, '../../../examples/config');
const samples = (kind: string): string[] => readdirSync(join(EXAMPLES, kind)).filter((name) => name.endsWith('.yaml'));

function failureOf(text: string, file: string): Failure {
  try {
    parseConfig(text, file, 'host-a');
  } catch (error) {
    assert.ok(error instanceof Failure, String(error));
    return error;
  }
  return assert.fail(`${file} was taken`);
}

for (const name of samples('valid')) {
  void test(`valid: ${name}`, () => {
    const config = parseConfig(readFileSync(join(EXAMPLES, 'valid', name), 'utf8'), name, 'host-a');
    assert.equal(config.name, 'host-a');
  });
}

for (const name of samples('invalid')) {
  void test(`invalid: ${name}`, () => {
    const text = readFileSync(join(EXAMPLES, 'invalid', name), 'utf8');
    const expected = [...text.matchAll(/^# error: (.*)$/gm)].map((match) => match[1]!);
    assert.ok(expected.length > 0, 'the sample names no error');
    const failure = failureOf(text, name);
    assert.equal(failure.code, 'bad-config');
    const lines = failure.message.split('\n');
    assert.equal(lines.length, expected.length, failure.message);
    for (const [index, start] of expected.entries()) {
      assert.ok(lines[index]!.startsWith(start), `expected: ${start}\nfound:    ${lines[index]}`);
    }
  });
}

void test('defaults that depend on other options follow them', () => {
  const config = parseConfig('stateDirectory: /srv/u\nlisten: { port: 9000 }\n', 'x.yaml', 'Host-B');
  assert.equal(config.name, 'host-b');
  assert.equal(config.advertise, 'host-b:9000');
  assert.equal(config.replicaDirectory, '/srv/u/replicas');
  assert.equal(config.outboxDirectory, '/srv/u/outbox');
  assert.ok(!('libvirtSocket' in config));
});

void test('sizes are read in units of 1024', () => {
  const bytes = (text: string): number => parseConfig(`outbox: { maxBytes: ${text} }`, 'x.yaml', 'a').outbox.maxBytes;
  assert.equal(bytes('1 GiB'), 2 ** 30);
  assert.equal(bytes('1.5g'), 1.5 * 2 ** 30);
  assert.equal(bytes('512M'), 2 ** 29);
  assert.equal(bytes('134217728'), 2 ** 27);
  assert.equal(defaultConfig('a').outbox.maxBytes, 4 * 2 ** 30);
  assert.equal(defaultConfig('a').slice.bytes, 256 * 2 ** 20);
});

void test('the commented example, uncommented, is what the daemon does without it', () => {
  const commented = readFileSync(join(EXAMPLES, 'understudyd.yaml'), 'utf8');
  assert.deepEqual(parseConfig(commented, 'understudyd.yaml', 'host-a'), defaultConfig('host-a'));
  const uncommented = commented.replace(/^# ( *[a-zA-Z]+:(?: .*)?)$/gm, '$1').replace(/^#.*$/gm, '');
  const config = parseConfig(uncommented, 'understudyd.yaml', 'elsewhere');
  assert.deepEqual(config, {
    ...defaultConfig('host-a'),
    advertise: 'host-a.example.org:7443',
    libvirtSocket: '/run/libvirt/libvirt-sock',
    openPoints: 4,
  });
});

void test('a host name that cannot be a name of ours asks for one', () => {
  assert.throws(() => parseConfig('', 'x.yaml', 'my_host'), {
    name: 'Failure',
    code: 'bad-config',
    message: /my_host/,
  });
  assert.equal(parseConfig('name: a', 'x.yaml', 'my_host').name, 'a');
});

void test('a file that is not there is named', async () => {
  await assert.rejects(readConfig('/nonexistent/understudyd.yaml'), (error) => {
    assert.ok(error instanceof Failure);
    assert.equal(error.code, 'bad-config');
    assert.match(error.message, /\/nonexistent\/understudyd\.yaml/);
    return true;
  });
});
