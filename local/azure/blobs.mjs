// Azurite's blob service, with accounts that can come and go while it runs.
//
// Each line on standard input is a JSON object {name: [key1, key2], ...} that replaces the accounts; the end of standard
// input ends the process. The command line is Azurite's own.
import readline from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const store = require('azurite/dist/src/common/AccountDataStore.js').default;

let accounts = {};
store.prototype.getAccount = (name) => accounts[name];

readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    accounts = Object.fromEntries(
      Object.entries(JSON.parse(line)).map(([name, keys]) => [
        name,
        { name, key1: Buffer.from(keys[0], 'base64'), key2: Buffer.from(keys[1], 'base64') },
      ]),
    );
    console.log('accounts replaced');
  })
  .on('close', () => process.exit(0));

require('azurite/dist/src/blob/main.js');
