"""What each request takes and gives: said once, to the handlers and to /openapi.json."""
