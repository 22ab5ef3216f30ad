// Shows the gateway's own document. All names are relative to the page, wherever a proxy puts it.
"use strict";

const ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  // Swagger UI would show the document to a server on the internet.
  validatorUrl: null,
  onComplete: () => {
    document.title = ui.specSelectors.info().get("title");
  },
});
