'use strict';

const express = require('express');

const app = express();
app.get('/', (request, response) => response.type('text').send(`hello from node ${process.version}\n`));
app.listen(8080, '0.0.0.0');

// As process 1 a program has no default for it.
process.on('SIGTERM', () => process.exit(0));
