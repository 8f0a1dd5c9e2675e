/** Starts the console. */

import "./app.js";
