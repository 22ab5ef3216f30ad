// Shows the gateway's own document. All names are relative to the page, wherever a proxy puts it.
"use strict";

// Swagger UI takes whatever has "json" in its type for one document; a stream has one on each line.
const linesAsText = () => ({
  wrapComponents: {
    responseBody: (Original, { React }) => (properties) => {
      const contentType = properties.contentType?.replace("application/x-ndjson", "text/plain");
      return React.createElement(Original, { ...properties, contentType });
    },
  },
});

const ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  plugins: [linesAsText],
  // The document is shown to no validator on the internet, whatever Swagger UI thinks of its version.
  validatorUrl: null,
  onComplete: () => {
    document.title = ui.specSelectors.info().get("title");
  },
});
